"""Servers of our own for a machine that has none: PostgreSQL and Valkey, under our own lifecycle."""
