"""Writes text: answers a prompt or a conversation, in JSON of your schema if you give one."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from domain.agreement.exact_json import JsonWhereAsked
from domain.agreement.texts import TextSimilarity
from domain.contracts import Contract, Example, Text

MAX_SEED = 2**32 - 2  # 2**32 - 1 is how llama.cpp spells "no seed"
Stop = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class Message(Contract):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Text


class Input(Contract):
    """Either `prompt` (the same as one message of the user) or `messages`, and how to write."""

    prompt: Text | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=100)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=4_096, description="The answer ends after so many tokens at the latest.")] = 128
    temperature: Annotated[float, Field(ge=0.0, le=2.0, description="0 takes the likeliest token every time.")] = 0.0
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = Field(default=None, description="The same seed and input give the same text.")
    stop: Annotated[list[Stop], Field(max_length=4, default_factory=list, description="The answer ends before the first of these.")]
    json_schema: dict[str, Any] | None = Field(default=None, description="JSON Schema (2020-12) that the answer keeps; references inside itself only.")

    @model_validator(mode="after")
    def _one_of_prompt_and_messages(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        return self


class Output(Contract):
    """What was written, and why it ended there."""

    text: str
    finish_reason: Literal["stop", "length"]


EXAMPLES = (
    Example("A question", {"messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 32}),
    Example(
        "JSON by schema",
        {
            "prompt": "Extract the name and the city: Maria Lopez lives in Madrid.",
            "max_tokens": 64,
            "json_schema": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "city": {"type": "string"}},
                "required": ["name", "city"],
                "additionalProperties": False,
            },
        },
    ),
)


def count_items(value: Input) -> int:
    """Tokens that may be written: a micro-batch takes as long as its longest answer."""
    return value.max_tokens


COMPARATOR = JsonWhereAsked(
    lambda output: output.text,
    asks_for_json=lambda asked: asked.json_schema is not None,
    otherwise=TextSimilarity(lambda output: output.text),
)


def confidence(output: Output) -> float:
    """1 for an answer that came to its own end, 0 for one that was cut off; models do not say how sure they are of what they write."""
    return float(output.finish_reason == "stop")
