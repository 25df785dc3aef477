"""What answers of OpenAI's protocol mean: text whole or in pieces, vectors, counts of tokens. Nothing that a provider says is believed unread."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from domain.contracts import Usage
from domain.errors import ContentPolicy, ProviderBadAnswer


@dataclass(slots=True)
class Heard:
    """What a provider has said so far for one job."""

    text: list[str] = field(default_factory=list)
    finish_reason: Literal["stop", "length"] | None = None
    usage: Usage = field(default_factory=Usage)

    def take_usage(self, said: Mapping[str, Any]) -> None:
        """Takes in the counts of tokens, where there are some.

        Raises:
            ProviderBadAnswer: they are no counts.
        """
        usage = said.get("usage")
        if not isinstance(usage, dict):
            return
        counts = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0) or 0
        if any(type(count) is not int or count < 0 for count in counts):
            raise ProviderBadAnswer("the provider's counts of tokens are not whole numbers")
        self.usage = Usage(*counts)

    def take_text(self, said: Mapping[str, Any], emit: Callable[[str], None]) -> None:
        """Takes in a whole answer or one event of a stream, of chat or completions, and tells the watchers.

        Raises:
            ContentPolicy, ProviderBadAnswer: it is no text.
        """
        self.take_usage(said)
        choices = said.get("choices", [] if "usage" in said else None)
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise ProviderBadAnswer("the provider's answer has no list of choices")
        for choice in choices[:1]:  # one answer was asked for
            message = choice.get("delta", choice.get("message", choice))
            if not isinstance(message, dict):
                raise ProviderBadAnswer("the provider's choice holds no message")
            reason = choice.get("finish_reason")
            if reason == "content_filter" or message.get("refusal"):
                raise ContentPolicy("the provider's content policy does not allow the answer")
            if reason == "tool_calls":
                raise ProviderBadAnswer("the model wanted to call a tool, and was offered none")
            if reason is not None:
                self.finish_reason = "length" if reason == "length" else "stop"
            piece = message.get("content", message.get("text"))
            if piece is not None and not isinstance(piece, str):
                raise ProviderBadAnswer("the provider's text is no text")
            if piece:
                self.text.append(piece)
                emit(piece)


def vectors_of(said: Mapping[str, Any], texts: int) -> list[list[float]]:
    """The vectors of an answer in the order of the texts, each brought to length 1.

    Raises:
        ProviderBadAnswer: they are not one vector of one size for each text.
    """
    data = said.get("data")
    if not isinstance(data, list) or len(data) != texts or not all(isinstance(entry, dict) for entry in data):
        raise ProviderBadAnswer(f"the provider's answer does not hold {texts} vectors")
    by_index = {_place(entry.get("index", place)): entry.get("embedding") for place, entry in enumerate(data)}
    if set(by_index) != set(range(texts)):
        raise ProviderBadAnswer("the provider's vectors do not say which text each is for")
    vectors = [_unit(by_index[text]) for text in range(texts)]
    if len({len(vector) for vector in vectors}) != 1:
        raise ProviderBadAnswer("the provider's vectors differ in size")
    return vectors


def _place(index: object) -> int:
    return index if type(index) is int else -1


def _unit(vector: object) -> list[float]:
    if not isinstance(vector, list) or not all(type(number) in {int, float} for number in vector):
        raise ProviderBadAnswer("the provider's vector is no list of numbers")
    length = math.hypot(*vector)
    if not 0 < length < math.inf:
        raise ProviderBadAnswer("the provider's vector has no direction")
    return [number / length for number in vector]
