"""Alembic's migrations: numbered, one concern each, up and down from empty."""
