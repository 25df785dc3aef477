"""Idempotency keys and batches."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE idempotency_keys (
            tenant_id uuid NOT NULL,
            route text NOT NULL,                        -- the same key on another route is another key
            key_hash bytea NOT NULL,
            fingerprint bytea NOT NULL,                 -- SHA-256 of the canonical body
            subject_id uuid NOT NULL,                   -- the job or the batch that the first request made
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (tenant_id, route, key_hash)
        )
        """
    )
    op.execute("CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at)")
    op.execute(
        """
        CREATE TABLE batches (
            id uuid PRIMARY KEY,
            tenant_id uuid NOT NULL,
            key_id uuid NOT NULL,
            total integer NOT NULL CHECK (total > 0),
            created_at timestamptz NOT NULL DEFAULT now(),
            canceled_at timestamptz
        )
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE batches")
    op.execute("DROP TABLE idempotency_keys")
