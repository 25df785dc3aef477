"""The base of every task type's contract: strict pydantic models for Input and Output, and examples.

A task type is a module in ``domain/task_types/`` with ``Input``, ``Output`` and ``EXAMPLES``; it may define
``count_items(input)`` where one job holds several pieces of work. ``TaskContract`` is how the rest of the system sees it.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

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


Media = FileInput | Base64Input | UrlInput
"""A binary input: exactly one of the three. A backend never reads it: the platform resolves it to a ``Blob``."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A binary input as the backend gets it.

    Attributes:
        content: the bytes.
        content_type: what the content was found to be, whatever anyone said: ``image/png``, ``audio/wav``, …
    """

    content: bytes
    content_type: str


def media_fields(contract: type[Contract]) -> tuple[str, ...]:
    """The fields of an Input that are ``Media``."""
    return tuple(name for name, field in contract.model_fields.items() if FileInput in get_args(field.annotation))


@dataclass(frozen=True, slots=True)
class Example:
    """One input that a reader can send as it stands, and what it shows."""

    title: str
    input: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that one run of one job took; 0 where the model has none."""

    input_tokens: int = 0
    output_tokens: int = 0


def _one_item(_value: BaseModel) -> int:
    return 1


@dataclass(frozen=True, slots=True)
class TaskContract:
    """A task type's Input, Output, examples and measure.

    Attributes:
        count_items: how many pieces of work (texts, pages, …) an input holds, 1 or more; bounds a micro-batch.
    """

    input: type[Contract]
    output: type[Contract]
    examples: Sequence[Example] = ()
    count_items: Callable[[Any], int] = field(default=_one_item)
    summary: str = ""


def contract_of(module: ModuleType) -> TaskContract:
    """Reads the contract that a task type's module defines."""
    summary = (module.__doc__ or "").strip().splitlines()[0] if module.__doc__ else ""
    return TaskContract(
        input=module.Input,
        output=module.Output,
        examples=tuple(module.EXAMPLES),
        count_items=getattr(module, "count_items", _one_item),
        summary=summary,
    )


def load_contract(dotted: str) -> TaskContract:
    """Imports a task type by its dotted path, for example ``domain.task_types.text_embedding``.

    Raises:
        ImportError, AttributeError: there is no such module, or it defines no contract.
    """
    return contract_of(importlib.import_module(dotted))
