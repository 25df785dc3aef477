"""The base of every task type's contract: strict pydantic models for Input and Output, and examples.

A task type is a module in ``domain/task_types/`` with ``Input``, ``Output`` and ``EXAMPLES``; it may define
``count_items(input)`` where one job holds several pieces of work, ``COMPARATOR`` where answers of several models can be compared (consensus), and
``confidence(output)`` where an answer says how sure it is (cascades). ``TaskContract`` is how the rest of the system sees it.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

from domain.agreement.comparator import Comparator
from domain.media import MediaKind

MAX_TEXT_CHARS = 100_000
MAX_BASE64_CHARS = 1_048_576  # as long as a whole body may be; larger content goes by file or URL


class Contract(BaseModel):
    """A strict shape: unknown fields are refused, nothing is coerced, instances do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT_CHARS, pattern=r"\S")]
"""A text with something in it: 1 to 100,000 characters, not white space alone."""

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class FileInput(Contract):
    """A file that was uploaded before."""

    file_id: Annotated[str, Field(min_length=1, max_length=64, description="Of a file of yours: `file_…`.")]


class Base64Input(Contract):
    """Content inside the request."""

    base64: Annotated[str, Field(min_length=1, max_length=MAX_BASE64_CHARS, description="RFC 4648, padded, without line breaks.")]
    content_type: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        default=None, description="What you take it to be; the content itself decides."
    )


class UrlInput(Contract):
    """Content that the worker fetches."""

    url: Annotated[str, Field(min_length=1, max_length=2_048, description="`https://`, at a public address; redirects are not followed.")]


MEDIA_FORMS = ("(file_id)", "(base64)", "(url)")
"""How errors call the forms of a binary input; no field of any contract is called so."""


def _form(value: Any) -> str | None:
    names = value.keys() if isinstance(value, Mapping) else type(value).model_fields.keys() if isinstance(value, Contract) else ()
    forms = [form for form in MEDIA_FORMS if form.strip("()") in names]
    return forms[0] if len(forms) == 1 else None


Media = Annotated[
    Annotated[FileInput, Tag(MEDIA_FORMS[0])] | Annotated[Base64Input, Tag(MEDIA_FORMS[1])] | Annotated[UrlInput, Tag(MEDIA_FORMS[2])],
    Discriminator(_form, custom_error_type="invalid_value", custom_error_message="must be an object with exactly one of file_id, base64 and url"),
]
"""A binary input of any kind: exactly one of the three. A backend never reads it: the platform resolves it to a ``Blob``."""

ImageInput = Annotated[Media, MediaKind.IMAGE]
"""A binary input that must turn out to be an image."""

AudioInput = Annotated[Media, MediaKind.AUDIO]
"""A binary input that must turn out to be audio."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A binary input as the backend gets it.

    Attributes:
        content: the bytes.
        content_type: what the content was found to be, whatever anyone said: ``image/png``, ``audio/wav``, …
    """

    content: bytes
    content_type: str


def media_fields(contract: type[Contract]) -> dict[str, MediaKind | None]:
    """The fields of an Input that are binary inputs, ``| None`` or not, and of which kind each must be; None for any that is known.

    Only fields of the Input itself: one inside a list or another object is not resolved.
    """
    found: dict[str, MediaKind | None] = {}
    for name, declared in contract.model_fields.items():
        parts = [declared.annotation, *declared.metadata]
        for part in parts:  # grows: what is inside of what
            parts += getattr(part, "__metadata__", ()) if get_args(part) else ()
            parts += get_args(part)
        if FileInput in parts:
            found[name] = next((part for part in parts if isinstance(part, MediaKind)), None)
    return found


@dataclass(frozen=True, slots=True)
class Example:
    """One input that a reader can send as it stands, and what it shows."""

    title: str
    input: Mapping[str, Any]


def _one_item(_value: BaseModel) -> int:
    return 1


@dataclass(frozen=True, slots=True)
class TaskContract:
    """A task type's Input, Output, examples and measure.

    Attributes:
        count_items: how many pieces of work (texts, pages, …) an input holds, 1 or more; bounds a micro-batch.
        comparator: says how far answers of several models agree; None where they cannot be compared.
        confidence: how sure an output is of itself, 0 to 1; None where outputs do not say.
        media: the binary inputs, as ``media_fields`` gives them.
    """

    input: type[Contract]
    output: type[Contract]
    examples: Sequence[Example] = ()
    count_items: Callable[[Any], int] = field(default=_one_item)
    summary: str = ""
    comparator: Comparator | None = None
    confidence: Callable[[Any], float] | None = None
    media: Mapping[str, MediaKind | None] = field(default_factory=dict)


def contract_of(module: ModuleType) -> TaskContract:
    """Reads the contract that a task type's module defines."""
    summary = (module.__doc__ or "").strip().splitlines()[0] if module.__doc__ else ""
    return TaskContract(
        input=module.Input,
        output=module.Output,
        examples=tuple(module.EXAMPLES),
        count_items=getattr(module, "count_items", _one_item),
        summary=summary,
        comparator=getattr(module, "COMPARATOR", None),
        confidence=getattr(module, "confidence", None),
        media=media_fields(module.Input),
    )


def load_contract(dotted: str) -> TaskContract:
    """Imports a task type by its dotted path, for example ``domain.task_types.text_embedding``.

    Raises:
        ImportError, AttributeError: there is no such module, or it defines no contract.
    """
    return contract_of(importlib.import_module(dotted))
