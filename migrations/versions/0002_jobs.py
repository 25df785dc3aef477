"""Jobs, their inputs and outputs, attempts and events.

No foreign keys between these tables: each check would take a lock on the job's row for every insert, and every row here is
written by the statement that writes its job, and deleted by the one that deletes it.

Column order packs the fixed-width columns; fillfactor leaves room for lease renewals to stay on their page.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE jobs (
            id uuid PRIMARY KEY,                        -- UUIDv7: sorts by creation
            tenant_id uuid NOT NULL,
            key_id uuid NOT NULL,
            batch_id uuid,
            rerun_of uuid,
            fence bigint NOT NULL DEFAULT 0,            -- bumped at every change of ownership
            created_at timestamptz NOT NULL DEFAULT now(),
            available_at timestamptz NOT NULL DEFAULT now(),
            deadline_at timestamptz NOT NULL,
            published_at timestamptz,                   -- NULL: nothing in the broker speaks of it
            lease_expires_at timestamptz,               -- in no index: renewals must stay HOT
            started_at timestamptz,                     -- of the first attempt
            attempt_started_at timestamptz,             -- of the attempt that runs, or that ended the job
            finished_at timestamptz,
            expires_at timestamptz,                     -- when input and output are erased
            erased_at timestamptz,
            queue_ms double precision NOT NULL DEFAULT 0,
            run_ms double precision NOT NULL DEFAULT 0,
            timeout_s double precision NOT NULL,
            retention_s double precision NOT NULL,
            attempt integer NOT NULL DEFAULT 0,
            failures integer NOT NULL DEFAULT 0,
            max_attempts integer NOT NULL,
            event_seq integer NOT NULL DEFAULT 1,
            input_tokens integer,
            output_tokens integer,
            crashes smallint NOT NULL DEFAULT 0,
            publications smallint NOT NULL DEFAULT 0,   -- how often it was published since it became due
            solo boolean NOT NULL DEFAULT false,        -- must run alone: it was in a batch whose process died
            alone boolean NOT NULL DEFAULT false,       -- the running attempt was claimed alone
            task text NOT NULL,
            model text NOT NULL,
            pool text NOT NULL,
            priority text NOT NULL,
            status text NOT NULL DEFAULT 'queued',
            custom_id text,
            lease_owner text,
            cost_usd numeric(18, 9),
            error json,
            CONSTRAINT jobs_priority CHECK (priority IN ('interactive', 'standard', 'flex')),
            CONSTRAINT jobs_status CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'canceled', 'expired')),
            CONSTRAINT jobs_running_has_lease CHECK ((status = 'running') = (lease_expires_at IS NOT NULL)),
            CONSTRAINT jobs_final_has_end CHECK ((status IN ('succeeded', 'failed', 'canceled', 'expired')) = (finished_at IS NOT NULL)),
            CONSTRAINT jobs_failed_has_error CHECK ((status = 'succeeded' OR status IN ('queued', 'running')) = (error IS NULL)),
            CONSTRAINT jobs_failures CHECK (failures BETWEEN 0 AND max_attempts),
            CONSTRAINT jobs_crashes CHECK (crashes BETWEEN 0 AND 3)
        ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000)
        """
    )
    op.execute("CREATE INDEX jobs_unpublished ON jobs (priority, available_at, id) WHERE status = 'queued' AND published_at IS NULL")
    op.execute("CREATE INDEX jobs_live ON jobs (status, pool, priority, deadline_at) WHERE status IN ('queued', 'running')")
    op.execute("CREATE INDEX jobs_of_tenant ON jobs (tenant_id, id)")
    op.execute("CREATE INDEX jobs_of_batch ON jobs (batch_id, id) WHERE batch_id IS NOT NULL")
    op.execute("CREATE INDEX jobs_to_erase ON jobs (expires_at) WHERE finished_at IS NOT NULL AND erased_at IS NULL")
    op.execute("CREATE INDEX jobs_to_delete ON jobs (erased_at) WHERE erased_at IS NOT NULL")
    op.execute(
        """
        CREATE FUNCTION refuse_change_of_final_status() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'job % is %: a final status never changes', OLD.id, OLD.status USING ERRCODE = 'check_violation';
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER jobs_final_is_final BEFORE UPDATE ON jobs FOR EACH ROW
        WHEN (OLD.finished_at IS NOT NULL AND (NEW.status <> OLD.status OR NEW.finished_at IS DISTINCT FROM OLD.finished_at))
        EXECUTE FUNCTION refuse_change_of_final_status()
        """
    )
    op.execute(
        """
        CREATE TABLE job_inputs (
            job_id uuid PRIMARY KEY,
            input json NOT NULL,                        -- json, not jsonb: the client's order of keys is kept
            metadata jsonb,
            traceparent text
        )
        """
    )
    op.execute("CREATE INDEX job_inputs_metadata ON job_inputs USING gin (metadata jsonb_path_ops) WHERE metadata IS NOT NULL")
    op.execute("CREATE TABLE job_outputs (job_id uuid PRIMARY KEY, fence bigint NOT NULL, output json NOT NULL)")
    op.execute(
        """
        CREATE TABLE job_attempts (
            id uuid NOT NULL,
            job_id uuid NOT NULL,
            attempt integer NOT NULL,
            fence bigint NOT NULL,
            started_at timestamptz NOT NULL,
            ended_at timestamptz NOT NULL DEFAULT now(),
            model text NOT NULL,
            worker text NOT NULL,
            outcome text NOT NULL CHECK (outcome IN ('succeeded', 'failed', 'lost', 'released', 'canceled', 'expired')),
            error json,
            PRIMARY KEY (job_id, attempt)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE job_events (
            job_id uuid NOT NULL,
            seq integer NOT NULL,
            attempt integer NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            type text NOT NULL CHECK (type IN ('status', 'progress', 'log', 'output.delta')),
            status text,
            data json,
            PRIMARY KEY (job_id, seq)
        )
        """
    )


def downgrade() -> None:
    for table in ("job_events", "job_attempts", "job_outputs", "job_inputs", "jobs"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION refuse_change_of_final_status")
