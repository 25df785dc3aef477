"""What answers of OpenAI's protocol mean: text whole or in pieces, vectors, transcripts, counts of tokens. Nothing that a provider says is believed unread."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from domain.failures import ContentPolicy, ProviderBadAnswer
from domain.usage import Usage

UNDETERMINED = "und"  # ISO 639-2
# Whisper's servers say languages by their English names, others by code.
_CODES: Mapping[str, str] = dict(
    re.findall(
        r"(\w+):(\w+)",
        "afrikaans:af arabic:ar armenian:hy azerbaijani:az belarusian:be bosnian:bs bulgarian:bg catalan:ca chinese:zh croatian:hr czech:cs danish:da "
        "dutch:nl english:en estonian:et finnish:fi french:fr galician:gl german:de greek:el hebrew:he hindi:hi hungarian:hu icelandic:is indonesian:id "
        "italian:it japanese:ja kannada:kn kazakh:kk korean:ko latvian:lv lithuanian:lt macedonian:mk malay:ms marathi:mr maori:mi nepali:ne norwegian:no "
        "persian:fa polish:pl portuguese:pt romanian:ro russian:ru serbian:sr slovak:sk slovenian:sl spanish:es swahili:sw swedish:sv tagalog:tl tamil:ta "
        "thai:th turkish:tr ukrainian:uk urdu:ur vietnamese:vi welsh:cy",
    )
)


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
        counts: tuple[Any, Any] = _first(usage, "prompt_tokens", "input_tokens", none=0), _first(usage, "completion_tokens", "output_tokens", none=0)
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
            message = _first(choice, "delta", "message", none=choice)
            if not isinstance(message, dict):
                raise ProviderBadAnswer("the provider's choice holds no message")
            reason = choice.get("finish_reason")
            if reason == "content_filter" or message.get("refusal"):
                raise ContentPolicy("the provider's content policy does not allow the answer")
            if reason == "tool_calls":
                raise ProviderBadAnswer("the model wanted to call a tool, and was offered none")
            if reason is not None:
                self.finish_reason = "length" if reason == "length" else "stop"
            piece = _first(message, "content", "text")
            if piece is not None and not isinstance(piece, str):
                raise ProviderBadAnswer("the provider's text is no text")
            if piece:
                self.text.append(piece)
                emit(piece)


def _first(said: Mapping[str, Any], *names: str, none: Any = None) -> Any:
    """The first of these fields that is said; null says nothing."""
    return next((said[name] for name in names if said.get(name) is not None), none)


def vectors_of(said: Mapping[str, Any], texts: int) -> list[list[float]]:
    """The vectors of an answer in the order of the texts, each brought to length 1.

    Raises:
        ProviderBadAnswer: they are not one vector of one size for each text.
    """
    data = said.get("data")
    if not isinstance(data, list) or len(data) != texts or not all(isinstance(entry, dict) for entry in data):
        raise ProviderBadAnswer(f"the provider's answer does not hold {texts} vectors")
    by_index = {_place(_first(entry, "index", none=place)): entry.get("embedding") for place, entry in enumerate(data)}
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


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a provider heard in a recording.

    Attributes:
        language: ISO 639.
        duration_s: None where the provider does not say.
        segments: start and end in seconds, and what was said.
    """

    text: str
    language: str
    duration_s: float | None
    segments: list[tuple[float, float, str]]


def transcript_of(said: Mapping[str, Any], language: str | None) -> Transcript:
    """A transcript out of ``verbose_json`` or ``json``, which has the text alone, and in some the seconds that are charged.

    Args:
        said: the answer.
        language: the one that was asked for, if any; else the provider's word is taken.

    Raises:
        ProviderBadAnswer: it is none.
    """
    text, segments = said.get("text"), _first(said, "segments", none=[])
    if not isinstance(text, str) or not isinstance(segments, list):
        raise ProviderBadAnswer("the provider's answer holds no transcript")
    read = [_segment(segment) for segment in segments]
    usage = said.get("usage")
    durations = [said.get("duration"), usage.get("seconds") if isinstance(usage, dict) else None, max((end for _, end, _ in read), default=None)]
    duration_s = next((_seconds(value) for value in durations if value is not None), None)
    return Transcript(text.strip(), language or _code(said.get("language")), duration_s, read)


def _segment(segment: object) -> tuple[float, float, str]:
    if not isinstance(segment, dict) or not isinstance(segment.get("text"), str):
        raise ProviderBadAnswer("the provider's segment holds no text")
    return _seconds(segment.get("start")), _seconds(segment.get("end")), segment["text"].strip()


def _seconds(value: object) -> float:
    """Some servers write a duration as text."""
    try:
        seconds = float(value) if isinstance(value, str | float) or type(value) is int else -1.0
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < math.inf:
        raise ProviderBadAnswer("the provider's times are no seconds")
    return seconds


def _code(language: object) -> str:
    name = language.lower() if isinstance(language, str) else ""
    return _CODES.get(name, name if len(name) in {2, 3} and name.isalpha() else UNDETERMINED)
