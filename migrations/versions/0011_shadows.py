"""What became of shadows: jobs that a candidate ran too, and how far it agreed."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE shadow_comparisons (
            shadow_id uuid PRIMARY KEY,                 -- the job that was compared, and is gone
            tenant_id uuid NOT NULL,
            compared_at timestamptz NOT NULL DEFAULT now(),
            task text NOT NULL,
            model text NOT NULL,                        -- the candidate
            primary_model text NOT NULL,
            agreement double precision,                 -- 0 to 1; NULL where there are no two outputs, or they cannot be compared
            run_ms double precision NOT NULL,
            primary_run_ms double precision NOT NULL,
            cost_usd numeric(18, 9),                    -- paid by nobody but who runs this service
            primary_cost_usd numeric(18, 9),
            error_code text,                            -- why the candidate has no output
            primary_error_code text
        )
        """
    )
    op.execute("CREATE INDEX shadow_comparisons_of_model ON shadow_comparisons (tenant_id, model, compared_at)")
    op.execute("CREATE INDEX shadow_comparisons_by_age ON shadow_comparisons (compared_at)")
    op.execute("CREATE INDEX jobs_shadows_ended ON jobs (id) WHERE child_role = 'shadow' AND finished_at IS NOT NULL")


def downgrade() -> None:
    op.execute("DROP INDEX jobs_shadows_ended")
    op.execute("DROP TABLE shadow_comparisons")
