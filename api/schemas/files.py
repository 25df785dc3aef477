"""Files as answers show them, and the upload's parts."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from api.schemas.jobs import FileUrls


class File(BaseModel):
    """A file: what was uploaded, or what a job gave."""

    id: str
    object: Literal["file"]
    sha256: Annotated[str, Field(description="Of the content, in hexadecimal.")]
    bytes: int
    content_type: Annotated[str, Field(description="What the content was found to be, whatever was said of it.")]
    filename: str | None = Field(description="As the upload called it.")
    job_id: str | None = Field(description="The job that gave it; null if it was uploaded.")
    created_at: datetime
    expires_at: datetime = Field(description="When it is erased; a job that was accepted with it before can still read it.")
    urls: FileUrls


class FileList(BaseModel):
    """A page of files, the newest first."""

    data: list[File]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


class Upload(BaseModel):
    """The parts of an upload."""

    file: Annotated[str, Field(json_schema_extra={"contentMediaType": "application/octet-stream"}, description="The content, 25 MiB at most.")]
