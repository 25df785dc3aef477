"""Jobs that are made of jobs: parents and children, what models agreed on, reviews, and cascades."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE jobs
            ADD COLUMN parent_id uuid,                  -- of a child; children are hidden from lists, webhooks and the feed
            ADD COLUMN child_role text,                 -- why it was made: to be joined with its siblings, or in the shadow of its parent
            ADD COLUMN pending_children smallint,       -- of a parent: children that it waits for; NULL: it waits for none and never did
            ADD CONSTRAINT jobs_child_has_role CHECK ((parent_id IS NULL) = (child_role IS NULL)),
            ADD CONSTRAINT jobs_child_role CHECK (child_role IN ('consensus', 'shadow')),
            ADD CONSTRAINT jobs_pending_children CHECK (pending_children >= 0)
        """
    )
    op.execute("CREATE INDEX jobs_of_parent ON jobs (parent_id, id) WHERE parent_id IS NOT NULL")
    op.execute("CREATE INDEX jobs_live_children ON jobs (parent_id) WHERE parent_id IS NOT NULL AND status IN ('queued', 'running')")
    op.execute("ALTER TABLE job_attempts DROP CONSTRAINT job_attempts_outcome_check")
    op.execute(
        """
        ALTER TABLE job_attempts ADD CONSTRAINT job_attempts_outcome_check
            CHECK (outcome IN ('succeeded', 'failed', 'lost', 'released', 'canceled', 'expired', 'held', 'escalated'))
        """
    )
    op.execute(
        """
        CREATE TABLE job_consensus (
            job_id uuid PRIMARY KEY,
            rule json NOT NULL,                         -- models, min_agreement, on_disagreement
            report json                                 -- what the join found; holds outputs, so it is erased with the job's own
        )
        """
    )
    op.execute(
        """
        CREATE TABLE job_reviews (
            job_id uuid PRIMARY KEY,
            tenant_id uuid NOT NULL,
            asked_at timestamptz NOT NULL DEFAULT now(),
            resolved_at timestamptz,
            resolved_by uuid,                           -- the key
            resolution json,                            -- one of accept, output, reject; erased with the job's output
            CONSTRAINT job_reviews_resolved_by CHECK ((resolved_at IS NULL) = (resolved_by IS NULL))
        )
        """
    )
    op.execute("CREATE INDEX job_reviews_open ON job_reviews (tenant_id, job_id) WHERE resolved_at IS NULL")


def downgrade() -> None:
    op.execute("DROP TABLE job_reviews")
    op.execute("DROP TABLE job_consensus")
    op.execute("DELETE FROM job_attempts WHERE outcome IN ('held', 'escalated')")
    op.execute("ALTER TABLE job_attempts DROP CONSTRAINT job_attempts_outcome_check")
    op.execute(
        """
        ALTER TABLE job_attempts ADD CONSTRAINT job_attempts_outcome_check
            CHECK (outcome IN ('succeeded', 'failed', 'lost', 'released', 'canceled', 'expired'))
        """
    )
    op.execute("DELETE FROM jobs WHERE parent_id IS NOT NULL")
    op.execute("ALTER TABLE jobs DROP COLUMN parent_id, DROP COLUMN child_role, DROP COLUMN pending_children")
