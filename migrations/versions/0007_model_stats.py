"""How models do: by the minute over all tenants, by the day for each."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE model_minutes (
            minute timestamptz NOT NULL,
            model text NOT NULL,
            runs bigint NOT NULL,
            failures jsonb NOT NULL,                    -- how many by code
            run_ms jsonb NOT NULL,                      -- how many successful runs by bucket of the histogram
            PRIMARY KEY (minute, model)
        ) WITH (fillfactor = 50)
        """
    )
    op.execute(
        """
        CREATE TABLE model_days (
            day date NOT NULL,                          -- UTC
            model text NOT NULL,
            tenant_id uuid NOT NULL,
            runs bigint NOT NULL,
            jobs bigint NOT NULL,                       -- that ended with one of the runs
            failures jsonb NOT NULL,
            run_ms jsonb NOT NULL,
            input_tokens bigint NOT NULL,
            output_tokens bigint NOT NULL,
            cost_usd numeric(18, 9) NOT NULL,
            PRIMARY KEY (tenant_id, model, day)
        ) WITH (fillfactor = 50)
        """
    )
    op.execute("CREATE INDEX model_days_by_age ON model_days (day)")


def downgrade() -> None:
    for table in ("model_days", "model_minutes"):
        op.execute(f"DROP TABLE {table}")
