"""What workers say of themselves, for queues and autoscalers."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE worker_processes (
            name text PRIMARY KEY,
            pool text NOT NULL,
            host text NOT NULL,
            pid integer NOT NULL,
            concurrency integer NOT NULL,
            ready boolean NOT NULL,
            busy integer NOT NULL DEFAULT 0,            -- batches that run now
            finish_per_s double precision NOT NULL DEFAULT 0,
            started_at timestamptz NOT NULL DEFAULT now(),
            seen_at timestamptz NOT NULL DEFAULT now()
        ) WITH (fillfactor = 50)
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE worker_processes")
