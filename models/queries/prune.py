"""Removing what is kept no longer, a few hundred rows a statement. Any number of pruners may run: each skips what is locked."""

from sqlalchemy import Connection, text

from models.queries.submit import IDEMPOTENCY_HOURS

# `d.state || ''`: see claim.py; here it is the indexes of what is pending, which may be long, that must not be read for a few jobs.
_ERASE = text(
    """
    WITH due AS (
        SELECT id FROM jobs WHERE finished_at IS NOT NULL AND erased_at IS NULL AND expires_at <= now()
          AND (parent_id IS NULL OR NOT EXISTS (SELECT FROM jobs p WHERE p.id = jobs.parent_id AND p.finished_at IS NULL))
          AND NOT EXISTS (SELECT FROM webhook_deliveries d WHERE d.job_id = jobs.id AND d.state || '' IN ('pending', 'sending'))
        ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ), b AS (
        UPDATE events SET body = NULL FROM due WHERE job_id = due.id AND body IS NOT NULL
    ), i AS (
        DELETE FROM job_inputs USING due WHERE job_id = due.id
    ), o AS (
        DELETE FROM job_outputs USING due WHERE job_id = due.id
    ), c AS (
        UPDATE job_consensus SET report = NULL FROM due WHERE job_id = due.id AND report IS NOT NULL
    ), r AS (
        UPDATE job_reviews SET resolution = NULL FROM due WHERE job_id = due.id AND resolution IS NOT NULL
    ), f AS (
        UPDATE job_feedback SET correct_output = NULL, note = NULL FROM due WHERE job_id = due.id
    ), jf AS (
        DELETE FROM job_files USING due WHERE job_id = due.id
    ), e AS (
        UPDATE job_events SET data = NULL FROM due WHERE job_id = due.id AND data IS NOT NULL
    )
    UPDATE jobs SET erased_at = now() FROM due WHERE jobs.id = due.id AND erased_at IS NULL RETURNING jobs.id
    """
)

_DELETE = text(
    """
    WITH due AS (
        SELECT id FROM jobs WHERE erased_at <= now() - make_interval(secs => :kept_s) ORDER BY erased_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ), a AS (
        DELETE FROM job_attempts USING due WHERE job_id = due.id
    ), f AS (
        DELETE FROM job_feedback USING due WHERE job_id = due.id
    ), e AS (
        DELETE FROM job_events USING due WHERE job_id = due.id
    ), c AS (
        DELETE FROM job_consensus USING due WHERE job_id = due.id
    ), r AS (
        DELETE FROM job_reviews USING due WHERE job_id = due.id
    ), w AS (
        DELETE FROM job_webhooks USING due WHERE job_id = due.id
    ), p AS (
        DELETE FROM events USING due WHERE job_id = due.id
    ), d AS (
        DELETE FROM webhook_deliveries USING due WHERE job_id = due.id RETURNING webhook_deliveries.id
    ), t AS (
        DELETE FROM webhook_tries USING d WHERE delivery_id = d.id
    )
    DELETE FROM jobs USING due WHERE jobs.id = due.id RETURNING jobs.id
    """
)

_DELETE_EVENTS = text(
    """
    WITH due AS (
        SELECT id FROM events WHERE job_id IS NULL AND created_at <= now() - make_interval(secs => :kept_s)
        ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ), d AS (
        DELETE FROM webhook_deliveries USING due WHERE event_id = due.id RETURNING webhook_deliveries.id
    ), t AS (
        DELETE FROM webhook_tries USING d WHERE delivery_id = d.id
    )
    DELETE FROM events USING due WHERE events.id = due.id RETURNING events.id
    """
)

_FORGET_KEYS = text(
    """
    WITH due AS (
        SELECT tenant_id, route, key_hash FROM idempotency_keys WHERE created_at < now() - make_interval(hours => :hours)
        ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM idempotency_keys k USING due
    WHERE (k.tenant_id, k.route, k.key_hash) = (due.tenant_id, due.route, due.key_hash) RETURNING k.subject_id
    """
)

_DELETE_BATCHES = text(
    """
    WITH due AS (
        SELECT id FROM batches WHERE created_at < now() - make_interval(secs => :older_than_s)
          AND NOT EXISTS (SELECT FROM jobs WHERE jobs.batch_id = batches.id)
        LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM batches USING due WHERE batches.id = due.id RETURNING batches.id
    """
)


def erase_expired(connection: Connection, *, limit: int) -> int:
    """Erases inputs, outputs, metadata, the data of events and their stored bodies, of jobs past their retention; the rows stay, to answer 410.

    One statement: a job is erased whole or not at all. One with a webhook delivery that is not over waits until it is, and so does a child whose parent
    has not ended and may yet be joined from it. Locks the jobs' rows. Uses
    ``jobs_to_erase``, ``webhook_deliveries_of_job`` and ``events_of_job``.

    Returns:
        How many jobs.
    """
    return len(connection.execute(_ERASE, {"limit": limit}).all())


def delete_erased(connection: Connection, *, kept_s: float, limit: int) -> int:
    """Deletes jobs that were erased over ``kept_s`` ago, with their attempts, events, deliveries and tries. Locks their rows. Uses ``jobs_to_delete``.

    Returns:
        How many jobs.
    """
    return len(connection.execute(_DELETE, {"kept_s": kept_s, "limit": limit}).all())


def delete_old_events(connection: Connection, *, kept_s: float, limit: int) -> int:
    """Deletes events that are of no job and over ``kept_s`` old, with their deliveries and tries. Locks their rows. Uses ``events_by_age``.

    Returns:
        How many events.
    """
    return len(connection.execute(_DELETE_EVENTS, {"kept_s": kept_s, "limit": limit}).all())


def forget_idempotency_keys(connection: Connection, *, limit: int) -> int:
    """Deletes Idempotency-Keys over 24 hours old. Locks their rows. Uses ``idempotency_keys_by_age``.

    Returns:
        How many.
    """
    return len(connection.execute(_FORGET_KEYS, {"hours": IDEMPOTENCY_HOURS, "limit": limit}).all())


def delete_empty_batches(connection: Connection, *, older_than_s: float, limit: int) -> int:
    """Deletes batches whose jobs are all gone; younger ones than ``older_than_s`` cannot be. Locks their rows. Uses ``jobs_of_batch``.

    Returns:
        How many.
    """
    return len(connection.execute(_DELETE_BATCHES, {"older_than_s": older_than_s, "limit": limit}).all())
