"""What tenants say of outputs."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE job_feedback (
            job_id uuid PRIMARY KEY,
            key_id uuid NOT NULL,                       -- whose
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            score double precision NOT NULL,
            compared boolean NOT NULL,                  -- the score is how far the output agrees with the correct one
            correct_output json,                        -- erased with the output itself, and so is the note
            note text,
            CONSTRAINT job_feedback_score CHECK (score BETWEEN 0 AND 1)
        )
        """
    )
    op.execute(
        """
        ALTER TABLE model_days
            ADD COLUMN scores bigint NOT NULL DEFAULT 0,   -- how many were given to outputs of that day
            ADD COLUMN score_sum double precision NOT NULL DEFAULT 0
        """
    )
    op.execute("CREATE INDEX model_days_scored ON model_days (day) INCLUDE (model, tenant_id, scores, score_sum) WHERE scores > 0")


def downgrade() -> None:
    op.execute("DROP INDEX model_days_scored")
    op.execute("ALTER TABLE model_days DROP COLUMN scores, DROP COLUMN score_sum")
    op.execute("DROP TABLE job_feedback")
