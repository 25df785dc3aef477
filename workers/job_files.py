"""Files that running jobs read and give."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from sqlalchemy import Engine

from domain.failures import FilesUnavailable, InferenceError
from models.identity import new_id
from models.queries.claim import ClaimedJob
from models.queries.files import Content, begin_job_file, files_of_jobs, keep_job_files
from storage.objects import ObjectStore, StoreAway, object_name
from workers.patience import patiently


@dataclass(frozen=True, slots=True)
class JobFiles:
    """The store of files as a child sees it; each call waits for a database that is away.

    Attributes:
        inline_bytes: an output with more is given as a file.
    """

    engine: Engine
    store: ObjectStore
    inline_bytes: int

    def find(self, wanted: Sequence[tuple[UUID, UUID]]) -> Mapping[tuple[UUID, UUID], str]:
        """The keys of the files that jobs name, as ``files_of_jobs``."""
        return patiently(self.engine, lambda connection: files_of_jobs(connection, wanted=wanted))

    def save(self, job: ClaimedJob, content: bytes, content_type: str) -> UUID:
        """Stores what a running job gives; nobody sees it before ``keep``, and before the job has succeeded under the fence that it has now.

        A crash before that leaves a row, and perhaps an object, that the eraser takes away.

        Raises:
            FilesUnavailable: the store is away.
            InferenceError: the job is another's by now; whatever comes of this run, the fence refuses it.
        """
        file_id = new_id()
        about = Content(len(content), content_type, sha256(content).digest())
        name = object_name(file_id)
        key = patiently(
            self.engine,
            lambda connection: begin_job_file(connection, file_id=file_id, job_id=job.id, fence=job.fence, object_name=name, content=about),
        )
        if key is None:
            raise InferenceError("the job is no longer this worker's")
        try:
            self.store.write(key, [content])
        except StoreAway as error:
            raise FilesUnavailable from error
        return file_id

    def keep(self, ids: Collection[UUID]) -> None:
        """Says that the run which gave these files has come to its end."""
        patiently(self.engine, lambda connection: keep_job_files(connection, ids=ids))
