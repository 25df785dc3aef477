"""How a job's model was chosen, what became of the choice, and the breakers of models.

The decision lies beside the hot row, in the row that a claim reads anyway. Jobs without one have nothing there.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE job_inputs
            ADD COLUMN routing json,                    -- the decision, as it was made at submit
            ADD COLUMN failovers jsonb                  -- from, to, code and moment of each move to another model, the first first
        """
    )
    op.execute(
        """
        CREATE TABLE model_breakers (                   -- a model that works has no row here
            model text PRIMARY KEY,
            state text NOT NULL CHECK (state IN ('closed', 'open', 'half_open')),
            failures_in_row integer NOT NULL DEFAULT 0,
            window_started_at timestamptz NOT NULL,     -- of the counts that follow
            window_failures integer NOT NULL DEFAULT 0,
            window_successes integer NOT NULL DEFAULT 0,
            openings integer NOT NULL DEFAULT 0,        -- in a row, without a success between them
            code text,                                  -- of the failure that opened it
            opened_at timestamptz,
            probe_at timestamptz,                       -- open: not before; half open: until when its probe has time
            CONSTRAINT model_breakers_open CHECK ((state = 'closed') = (probe_at IS NULL))
        ) WITH (fillfactor = 50)
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE model_breakers")
    op.execute("ALTER TABLE job_inputs DROP COLUMN routing, DROP COLUMN failovers")
