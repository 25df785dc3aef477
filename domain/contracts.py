"""The base of every task type's contract: strict pydantic models for Input and Output, and examples.

A task type is a module in ``domain/task_types/`` with ``Input``, ``Output`` and ``EXAMPLES``; it may define
``count_items(input)`` where one job holds several pieces of work, ``COMPARATOR`` where answers of several models can be compared (consensus), and
``confidence(output)`` where an answer says how sure it is (cascades). ``TaskContract`` is how the rest of the system sees it.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from domain.agreement.comparator import Comparator

MAX_TEXT_CHARS = 100_000


class Contract(BaseModel):
    """A strict shape: unknown fields are refused, nothing is coerced, instances do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT_CHARS, pattern=r"\S")]
"""A text with something in it: 1 to 100,000 characters, not white space alone."""

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


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
        comparator: says how far answers of several models agree; None where they cannot be compared.
        confidence: how sure an output is of itself, 0 to 1; None where outputs do not say.
    """

    input: type[Contract]
    output: type[Contract]
    examples: Sequence[Example] = ()
    count_items: Callable[[Any], int] = field(default=_one_item)
    summary: str = ""
    comparator: Comparator | None = None
    confidence: Callable[[Any], float] | None = None


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
    )


def load_contract(dotted: str) -> TaskContract:
    """Imports a task type by its dotted path, for example ``domain.task_types.text_embedding``.

    Raises:
        ImportError, AttributeError: there is no such module, or it defines no contract.
    """
    return contract_of(importlib.import_module(dotted))
