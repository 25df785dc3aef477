"""Files: what was uploaded, and what jobs gave that is no JSON or too large to stand in a row. The content is in the store of files.

A row is written before its object and deleted after it, so that there is no object that no row knows of. No foreign keys to jobs, as in 0002.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE files (
            id uuid PRIMARY KEY,
            tenant_id uuid NOT NULL,
            job_id uuid,                                -- the job that gave it; NULL: it was uploaded
            fence bigint,                               -- under which that job gave it: another attempt's file is nobody's
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL,            -- when the pruner looks at it; of a job's file the job's own counts, once it has ended
            size_bytes bigint,
            state text NOT NULL DEFAULT 'pending',      -- pending: the object may be half written; erasing: it may be half gone
            object_key text NOT NULL,                   -- where it is in the store; nobody can guess it
            content_type text,
            filename text,
            sha256 bytea,
            CONSTRAINT files_state CHECK (state IN ('pending', 'ready', 'erasing')),
            CONSTRAINT files_ready_is_whole CHECK (state <> 'ready' OR (size_bytes IS NOT NULL AND content_type IS NOT NULL AND sha256 IS NOT NULL)),
            CONSTRAINT files_of_job_have_fence CHECK ((job_id IS NULL) = (fence IS NULL))
        )
        """
    )
    op.execute("CREATE INDEX files_of_tenant ON files (tenant_id, id)")
    op.execute("CREATE INDEX files_due ON files (expires_at)")
    op.execute("CREATE TABLE job_files (job_id uuid NOT NULL, file_id uuid NOT NULL, PRIMARY KEY (job_id, file_id))")
    op.execute("CREATE INDEX job_files_by_file ON job_files (file_id)")
    op.execute("ALTER TABLE job_outputs ADD COLUMN file_id uuid")  # the whole output is there, and `output` is null


def downgrade() -> None:
    op.execute("ALTER TABLE job_outputs DROP COLUMN file_id")
    op.execute("DROP TABLE job_files")
    op.execute("DROP TABLE files")
