"""What a route says of itself, for ``openapi.json``: kept on the view function, read once by ``api/openapi.py``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from domain.errors import MillpondError

View = TypeVar("View", bound=Callable[..., Any])
_ATTRIBUTE = "__millpond_operation__"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or a header that a route reads.

    Attributes:
        place: ``query``, ``header`` or ``path``.
        schema: JSON Schema of the value.
    """

    name: str
    place: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One way in which a route answers.

    Attributes:
        body: the shape of a JSON body; None where there is none, or where ``media_type`` is not JSON.
        headers: names, and what each says.
    """

    description: str
    body: type[BaseModel] | None = None
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """The description of one route.

    Attributes:
        tag: the heading it stands under.
        body: the shape of the JSON body, if it takes one.
        body_media_types: other media types that the body may have.
        form: the parts of a body that is `multipart/form-data`, if it takes one.
        answers: by status.
        errors: beyond those that every route may give (key, body, database).
        public: whether it answers without a key.
    """

    summary: str
    tag: str
    description: str = ""
    body: type[BaseModel] | None = None
    body_required: bool = True
    body_media_types: Sequence[str] = ()
    form: type[BaseModel] | None = None
    parameters: Sequence[Parameter] = ()
    answers: Mapping[int, Answer] = field(default_factory=dict)
    errors: Sequence[type[MillpondError]] = ()
    public: bool = False


def operation(
    *,
    summary: str,
    tag: str,
    description: str = "",
    body: type[BaseModel] | None = None,
    body_required: bool = True,
    body_media_types: Sequence[str] = (),
    form: type[BaseModel] | None = None,
    parameters: Sequence[Parameter] = (),
    answers: Mapping[int, Answer] | None = None,
    errors: Sequence[type[MillpondError]] = (),
    public: bool = False,
) -> Callable[[View], View]:
    """Notes on a view function what it does; write it below the route's own decorator."""
    described = Operation(
        summary=summary,
        tag=tag,
        description=description,
        body=body,
        body_required=body_required,
        body_media_types=body_media_types,
        form=form,
        parameters=parameters,
        answers=answers or {},
        errors=errors,
        public=public,
    )

    def keep(view: View) -> View:
        setattr(view, _ATTRIBUTE, described)
        return view

    return keep


def operation_of(view: Callable[..., Any]) -> Operation | None:
    """What a view function says of itself."""
    found = getattr(view, _ATTRIBUTE, None)
    return found if isinstance(found, Operation) else None
