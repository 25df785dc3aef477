"""Files: their rows, which say who may read which object of the store, and until when.

A file is to be seen when its row is ``ready``. One that a job gave must also be of the attempt that succeeded: so it appears and vanishes with the job's
result, in the statement that ends the job, which need not know of it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Row, text

PENDING_S = 3_600.0  # an upload, or a run, that has not ended its file by then is looked at by the pruner
GRACE_S = 60.0  # a submit that saw a file just before its end has so long to commit the job that keeps it


@dataclass(frozen=True, slots=True)
class FileView:
    """A file as its owner may see it.

    Attributes:
        job_id: the job that gave it; None if it was uploaded.
        size_bytes: of its content.
        content_type: what the content was found to be.
        object_key: where the content is; nobody outside is told.
        sha256: of the content.
    """

    id: UUID
    job_id: UUID | None
    created_at: datetime
    expires_at: datetime
    size_bytes: int
    content_type: str
    filename: str | None
    object_key: str
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """What is known of content once all of it was read."""

    size_bytes: int
    content_type: str
    sha256: bytes


_VISIBLE = """
    f.state = 'ready' AND coalesce(j.expires_at, f.expires_at) > now()
    AND (f.job_id IS NULL OR (j.status || '' = 'succeeded' AND j.fence = f.fence AND j.erased_at IS NULL AND j.child_role IS DISTINCT FROM 'shadow'))
"""
_VIEW = f"""
    SELECT f.id, f.job_id, f.created_at, coalesce(j.expires_at, f.expires_at) AS expires_at, f.size_bytes, f.content_type, f.filename, f.object_key, f.sha256
    FROM files f LEFT JOIN jobs j ON j.id = f.job_id WHERE f.tenant_id = :tenant_id AND {_VISIBLE}
"""  # noqa: S608 - made of constants

_BEGIN = text(
    """
    WITH stored AS (
        SELECT coalesce(sum(size_bytes), 0)::bigint AS bytes FROM files WHERE tenant_id = :tenant_id AND state <> 'erasing'
    ), begun AS (
        INSERT INTO files (id, tenant_id, object_key, filename, size_bytes, expires_at)
        SELECT :id, :tenant_id, :object_key, :filename, :size_bytes, now() + make_interval(secs => :pending_s)
        FROM stored WHERE bytes + :size_bytes <= :quota_bytes
        RETURNING id
    )
    SELECT CASE WHEN EXISTS (SELECT FROM begun) THEN NULL ELSE bytes END FROM stored
    """
)
_COMPLETE = text(
    """
    UPDATE files SET state = 'ready', size_bytes = :size_bytes, content_type = :content_type, sha256 = :sha256,
        expires_at = now() + make_interval(secs => :retention_s)
    WHERE id = :id AND state = 'pending'
    RETURNING id, job_id, created_at, expires_at, size_bytes, content_type, filename, object_key, sha256
    """
)
_GIVE_UP = text("UPDATE files SET state = 'erasing', expires_at = now() - make_interval(secs => :grace_s + 1) WHERE id = :file_id AND state = 'pending'")
_BEGIN_OF_JOB = text(
    """
    INSERT INTO files (id, tenant_id, job_id, fence, object_key, size_bytes, content_type, sha256, expires_at)
    SELECT :id, tenant_id, id, fence, replace(CAST(tenant_id AS text), '-', '') || '/' || :object_name, :size_bytes, :content_type, :sha256,
           now() + make_interval(secs => :pending_s)
    FROM jobs WHERE id = :job_id AND fence = :fence AND status || '' = 'running'
    ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at
    RETURNING object_key
    """
)
_KEEP = text("UPDATE files SET state = 'ready' WHERE id = ANY (CAST(:ids AS uuid[])) AND state = 'pending'")
_ONE = text(f"{_VIEW} AND f.id = :file_id")
_SEVERAL = text(f"{_VIEW} AND f.id = ANY (CAST(:ids AS uuid[]))")
_LIST = text(f"{_VIEW} AND (CAST(:before AS uuid) IS NULL OR f.id < :before) ORDER BY f.id DESC LIMIT :limit")
_DELETE = text(
    f"""
    UPDATE files SET state = 'erasing', expires_at = now() - make_interval(secs => :grace_s + 1) WHERE id = (
        SELECT f.id FROM files f LEFT JOIN jobs j ON j.id = f.job_id WHERE f.id = :file_id AND f.tenant_id = :tenant_id AND {_VISIBLE} FOR UPDATE OF f
    ) RETURNING id
    """  # noqa: S608
)
_OF_JOBS = text(
    """
    SELECT j.id AS job_id, f.id, f.object_key FROM unnest(CAST(:job_ids AS uuid[]), CAST(:file_ids AS uuid[])) AS w(job_id, file_id)
        JOIN jobs j ON j.id = w.job_id JOIN files f ON f.id = w.file_id AND f.tenant_id = j.tenant_id AND f.state = 'ready'
    """
)

_NEEDED_BY_ITS_JOB = """
    f.state <> 'erasing' AND (
        j.finished_at IS NULL OR (j.status || '' = 'succeeded' AND j.fence = f.fence AND f.state = 'ready' AND j.expires_at > now())
    )
"""
_PUT_OFF = text(
    f"""
    WITH due AS (
        SELECT f.id, j.expires_at FROM files f JOIN jobs j ON j.id = f.job_id
        WHERE f.expires_at <= now() AND {_NEEDED_BY_ITS_JOB}
        ORDER BY f.expires_at LIMIT :limit FOR UPDATE OF f SKIP LOCKED
    )
    UPDATE files SET expires_at = coalesce(due.expires_at, now() + make_interval(secs => :pending_s)) FROM due WHERE files.id = due.id RETURNING files.id
    """  # noqa: S608
)
_TAKE = text(
    f"""
    WITH due AS (
        SELECT f.id FROM files f
        WHERE f.expires_at <= now() - make_interval(secs => :grace_s) AND NOT (f.state = 'ready' AND EXISTS (
            SELECT FROM job_files u JOIN jobs j ON j.id = u.job_id WHERE u.file_id = f.id AND j.finished_at IS NULL
        )) AND NOT EXISTS (SELECT FROM jobs j WHERE j.id = f.job_id AND {_NEEDED_BY_ITS_JOB})
        ORDER BY f.expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE files SET state = 'erasing' FROM due WHERE files.id = due.id RETURNING files.id, files.object_key
    """  # noqa: S608
)
_PUT_OFF_ERASING = text(
    """
    UPDATE files SET expires_at = now() + make_interval(secs => w.wait_s - :grace_s)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:waits_s AS float8[])) AS w(id, wait_s) WHERE files.id = w.id AND files.state = 'erasing'
    """
)
_FORGET = text("DELETE FROM files WHERE id = ANY (CAST(:ids AS uuid[])) AND state = 'erasing'")


def begin_file(
    connection: Connection, *, file_id: UUID, tenant_id: UUID, object_key: str, filename: str | None, size_bytes: int, quota_bytes: int
) -> int | None:
    """Writes the row of an upload, before its object, if there is room for it: a crash from here on leaves a row that the pruner finds after an hour.

    What the tenant stores is summed over ``files_bytes_of_tenant``. Uploads under way count, and what jobs gave, seen or not, until it is erased; only
    uploads that begin in the same milliseconds do not see each other.

    Args:
        file_id: of the new file.
        tenant_id: whose it will be.
        object_key: where its content will be.
        filename: as the client calls it.
        size_bytes: how large it may become; its own size counts once it is whole.
        quota_bytes: how much the tenant may store.

    Returns:
        None if the row is written; else how many bytes the tenant stores.
    """
    values = {"id": file_id, "tenant_id": tenant_id, "object_key": object_key, "filename": filename, "size_bytes": size_bytes, "quota_bytes": quota_bytes}
    stored: int | None = connection.execute(_BEGIN, {**values, "pending_s": PENDING_S}).scalar_one()
    return stored


def complete_file(connection: Connection, *, file_id: UUID, content: Content, retention_s: float) -> FileView | None:
    """Makes an upload's file visible, once its object is whole; None if the pruner was faster."""
    values = {"id": file_id, "size_bytes": content.size_bytes, "content_type": content.content_type, "sha256": content.sha256, "retention_s": retention_s}
    row = connection.execute(_COMPLETE, values).one_or_none()
    return None if row is None else _view(row)


def give_up_file(connection: Connection, *, file_id: UUID) -> None:
    """Leaves an upload that failed to the eraser's next pass; what dies before it could say so is found after an hour."""
    connection.execute(_GIVE_UP, {"file_id": file_id, "grace_s": GRACE_S})


def begin_job_file(connection: Connection, *, file_id: UUID, job_id: UUID, fence: int, object_name: str, content: Content) -> str | None:
    """Writes the row of a file that a running job gives, before its object. Safe to run again when it is not known whether it happened.

    Args:
        file_id: of the new file.
        job_id: whose it is; its tenant is the file's.
        fence: under which the job runs.
        object_name: the part of the object's key below the tenant's.
        content: what it will be.

    Returns:
        The whole key; None if the job is another's by now.
    """
    values = {"id": file_id, "job_id": job_id, "fence": fence, "object_name": object_name, "pending_s": PENDING_S}
    values |= {"size_bytes": content.size_bytes, "content_type": content.content_type, "sha256": content.sha256}
    key: str | None = connection.execute(_BEGIN_OF_JOB, values).scalar_one_or_none()
    return key


def keep_job_files(connection: Connection, *, ids: Collection[UUID]) -> None:
    """Makes files of a run visible as soon as their job has succeeded in it. A run that is repeated leaves the others to the pruner."""
    connection.execute(_KEEP, {"ids": [str(file_id) for file_id in ids]})


def get_file(connection: Connection, *, tenant_id: UUID, file_id: UUID) -> FileView | None:
    """One file; None when the tenant has none of that id, or not any more. Reads two primary keys."""
    row = connection.execute(_ONE, {"tenant_id": tenant_id, "file_id": file_id}).one_or_none()
    return None if row is None else _view(row)


def get_files(connection: Connection, *, tenant_id: UUID, ids: Collection[UUID]) -> dict[UUID, FileView]:
    """Those of the files that the tenant has, by id."""
    rows = connection.execute(_SEVERAL, {"tenant_id": tenant_id, "ids": [str(file_id) for file_id in ids]})
    return {row.id: _view(row) for row in rows}


def list_files(connection: Connection, *, tenant_id: UUID, before: UUID | None, limit: int) -> list[FileView]:
    """A page of a tenant's files, the newest first. Walks ``files_of_tenant`` backwards from ``before``."""
    return [_view(row) for row in connection.execute(_LIST, {"tenant_id": tenant_id, "before": before, "limit": limit})]


def delete_file(connection: Connection, *, tenant_id: UUID, file_id: UUID) -> bool:
    """Hides a file for good and leaves its object to the pruner; whether there was one. Locks the row.

    Jobs that are still to read it fail.
    """
    values = {"tenant_id": tenant_id, "file_id": file_id, "grace_s": GRACE_S}
    return connection.execute(_DELETE, values).one_or_none() is not None


def files_of_jobs(connection: Connection, *, wanted: Sequence[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], str]:
    """Where the inputs of running jobs are: a file that a job was accepted with is kept for it beyond its own end.

    Args:
        wanted: pairs of a job and a file.

    Returns:
        The object's key for each pair whose file is there and of the job's tenant.
    """
    values = {"job_ids": [str(job_id) for job_id, _ in wanted], "file_ids": [str(file_id) for _, file_id in wanted]}
    return {(row.job_id, row.id): row.object_key for row in connection.execute(_OF_JOBS, values)}


def put_off_files(connection: Connection, *, limit: int) -> int:
    """Gives files of jobs their real end: an hour more while the job is live, the job's own end once it has succeeded. Uses ``files_due``.

    Returns:
        How many.
    """
    return len(connection.execute(_PUT_OFF, {"limit": limit, "pending_s": PENDING_S}).all())


def take_due_files(connection: Connection, *, limit: int) -> list[tuple[UUID, str]]:
    """Hides files whose time is over, and gives them to be erased; those that a crash left half erased come again.

    One that a live job was accepted with waits until the job has ended, and one that a job gives or gave until ``put_off_files`` comes to it. Uses
    ``files_due``; skips what another pruner has locked.

    Returns:
        Ids and keys; delete the objects, then ``forget_files``.
    """
    return [(row.id, row.object_key) for row in connection.execute(_TAKE, {"limit": limit, "grace_s": GRACE_S})]


def put_off_erasing(connection: Connection, *, waits_s: Mapping[UUID, float]) -> None:
    """Lets hidden files whose objects could not be deleted make way for others: ``take_due_files`` gives each again when its wait, in seconds, is over."""
    values = {"ids": [str(file_id) for file_id in waits_s], "waits_s": list(waits_s.values()), "grace_s": GRACE_S}
    connection.execute(_PUT_OFF_ERASING, values)


def forget_files(connection: Connection, *, ids: Collection[UUID]) -> None:
    """Deletes the rows of files whose objects are gone."""
    connection.execute(_FORGET, {"ids": [str(file_id) for file_id in ids]})


def _view(row: Row[tuple[object, ...]]) -> FileView:
    return FileView(**{**row._mapping, "sha256": bytes(row.sha256)})  # noqa: SLF001 - SQLAlchemy's public name for a row by column
