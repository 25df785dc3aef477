"""Webhook endpoints and their secrets, events, deliveries and their tries.

An event is written by the statement that makes it true, without a body: the body is rendered once, from the job's final row, before the first try,
and stored as it is signed. No foreign keys to jobs, as in 0002.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE webhook_endpoints (
            id uuid PRIMARY KEY,
            tenant_id uuid NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            failing_since timestamptz,                  -- nothing but failures since then; NULL after a success
            hinted_at timestamptz,                      -- in no index: a message speaks of its due deliveries since then
            failures integer NOT NULL DEFAULT 0,        -- in a row
            kind text NOT NULL,                         -- registered: by the API; origin: where webhooks of single jobs go
            standing text NOT NULL DEFAULT 'new',
            enabled boolean NOT NULL DEFAULT true,
            disabled_reason text,
            url text NOT NULL,                          -- of an origin: scheme, host and port alone
            description text NOT NULL DEFAULT '',
            events text[],                              -- NULL: the default ones
            CONSTRAINT webhook_endpoints_kind CHECK (kind IN ('registered', 'origin')),
            CONSTRAINT webhook_endpoints_standing CHECK (standing IN ('new', 'good', 'failing')),
            CONSTRAINT webhook_endpoints_disabled CHECK (enabled = (disabled_reason IS NULL))
        ) WITH (fillfactor = 80)
        """
    )
    op.execute("CREATE INDEX webhook_endpoints_of_tenant ON webhook_endpoints (tenant_id, id) WHERE kind = 'registered'")
    op.execute("CREATE UNIQUE INDEX webhook_endpoints_origin ON webhook_endpoints (tenant_id, url) WHERE kind = 'origin'")
    op.execute(
        """
        CREATE TABLE webhook_secrets (
            id uuid PRIMARY KEY,
            tenant_id uuid NOT NULL,
            endpoint_id uuid,                           -- NULL: the tenant's default secret, which signs webhooks of single jobs
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz,                     -- NULL: the newest; an older one signs too until then
            sealing_key text NOT NULL,                  -- which key of the settings sealed it
            sealed bytea NOT NULL
        )
        """
    )
    op.execute("CREATE INDEX webhook_secrets_of_endpoint ON webhook_secrets (tenant_id, endpoint_id)")
    op.execute(
        """
        CREATE UNIQUE INDEX webhook_secrets_newest ON webhook_secrets (tenant_id, coalesce(endpoint_id, tenant_id)) WHERE expires_at IS NULL
        """
    )
    op.execute("CREATE TABLE job_webhooks (job_id uuid PRIMARY KEY, endpoint_id uuid NOT NULL, url text NOT NULL, events text[])")
    op.execute(
        """
        CREATE TABLE events (
            id uuid PRIMARY KEY,                        -- the webhook-id
            tenant_id uuid NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
            job_id uuid,
            batch_id uuid,
            endpoint_id uuid,                           -- whom endpoint.disabled and ping speak of
            type text NOT NULL,
            body bytea                                  -- the bytes that are signed; NULL until the first try
        )
        """
    )
    op.execute("CREATE INDEX events_feed ON events (tenant_id, xid, id)")
    op.execute("CREATE INDEX events_of_job ON events (job_id) WHERE job_id IS NOT NULL")
    op.execute("CREATE INDEX events_by_age ON events (created_at) WHERE job_id IS NULL")
    op.execute(
        """
        CREATE TABLE webhook_deliveries (
            id uuid PRIMARY KEY,
            tenant_id uuid NOT NULL,
            event_id uuid NOT NULL,
            endpoint_id uuid NOT NULL,
            job_id uuid,
            created_at timestamptz NOT NULL DEFAULT now(),
            available_at timestamptz NOT NULL DEFAULT now(),  -- the next try is not before then
            lease_expires_at timestamptz,
            last_try_at timestamptz,
            finished_at timestamptz,
            fence bigint NOT NULL DEFAULT 0,
            tries smallint NOT NULL DEFAULT 0,
            schedule_step smallint NOT NULL DEFAULT 0,  -- where in the schedule it is; a redelivery begins anew
            status_code smallint,                       -- of the last answer
            state text NOT NULL DEFAULT 'pending',
            type text NOT NULL,                         -- the event's
            url text NOT NULL,
            lease_owner text,
            error text,                                 -- the last try's, NULL after a success
            CONSTRAINT webhook_deliveries_once UNIQUE (event_id, endpoint_id),
            CONSTRAINT webhook_deliveries_state CHECK (state IN ('pending', 'sending', 'delivered', 'failed')),
            CONSTRAINT webhook_deliveries_sending_has_lease CHECK ((state = 'sending') = (lease_expires_at IS NOT NULL)),
            CONSTRAINT webhook_deliveries_end CHECK ((state IN ('delivered', 'failed')) = (finished_at IS NOT NULL))
        ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000)
        """
    )
    op.execute("CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint_id, available_at, id) WHERE state = 'pending'")
    op.execute("CREATE INDEX webhook_deliveries_sending ON webhook_deliveries (tenant_id, endpoint_id) WHERE state = 'sending'")
    op.execute("CREATE INDEX webhook_deliveries_of_tenant ON webhook_deliveries (tenant_id, id)")
    op.execute("CREATE INDEX webhook_deliveries_of_endpoint ON webhook_deliveries (endpoint_id, id)")
    op.execute("CREATE INDEX webhook_deliveries_of_job ON webhook_deliveries (job_id) WHERE job_id IS NOT NULL")
    op.execute(
        """
        CREATE TABLE webhook_tries (
            delivery_id uuid NOT NULL,
            try smallint NOT NULL,
            started_at timestamptz NOT NULL,
            duration_ms double precision NOT NULL,
            status_code smallint,
            error text,                                 -- a code; NULL after a success
            detail text,
            answer text,                                -- the first KiB, printable
            PRIMARY KEY (delivery_id, try)
        )
        """
    )
    op.execute("ALTER TABLE batches ADD COLUMN completed_at timestamptz")
    op.execute("CREATE INDEX jobs_live_of_batch ON jobs (batch_id) WHERE batch_id IS NOT NULL AND status IN ('queued', 'running')")
    op.execute("UPDATE batches SET completed_at = now() WHERE NOT EXISTS (SELECT FROM jobs WHERE batch_id = batches.id AND status IN ('queued', 'running'))")
    op.execute("CREATE INDEX batches_open ON batches (id) WHERE completed_at IS NULL")


def downgrade() -> None:
    op.execute("DROP INDEX batches_open")
    op.execute("DROP INDEX jobs_live_of_batch")
    op.execute("ALTER TABLE batches DROP COLUMN completed_at")
    for table in ("webhook_tries", "webhook_deliveries", "events", "job_webhooks", "webhook_secrets", "webhook_endpoints"):
        op.execute(f"DROP TABLE {table}")
