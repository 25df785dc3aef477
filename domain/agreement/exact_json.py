"""JSON: two answers agree if they hold the same value, however it is written."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from domain.agreement.comparator import Comparator, Comparison, Embed, pairwise


def canonical(value: Any) -> str:
    """One way to write a JSON value: keys sorted, and 1.0 as 1."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
    return value


class ExactJson(Comparator):
    """1 for the same value, 0 for another; order of keys and spaces make no difference.

    Args:
        value: reads the parsed JSON of an output.
    """

    def __init__(self, value: Callable[[Any], Any]) -> None:
        self._value = value

    def compare(self, asked: Any, answers: Sequence[Any], *, embed: Embed | None = None) -> Comparison:  # noqa: ARG002 - values need neither
        """The same or not."""
        return Comparison("exact_json", pairwise([canonical(self._value(answer)) for answer in answers], lambda left, right: float(left == right)))


class JsonWhereAsked(Comparator):
    """JSON where the input asks for it by a schema, else another comparator; a text that is no JSON agrees with what is written as it is.

    Args:
        text: reads the text of an output.
        asks_for_json: whether an input does.
        otherwise: compares where it does not.
    """

    def __init__(self, text: Callable[[Any], str], *, asks_for_json: Callable[[Any], bool], otherwise: Comparator) -> None:
        self._json = ExactJson(lambda answer: _parsed(text(answer)))
        self._asks_for_json = asks_for_json
        self._otherwise = otherwise

    def compare(self, asked: Any, answers: Sequence[Any], *, embed: Embed | None = None) -> Comparison:
        """As the input asks."""
        return (self._json if self._asks_for_json(asked) else self._otherwise).compare(asked, answers, embed=embed)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
