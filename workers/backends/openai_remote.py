"""Models behind any server that speaks OpenAI's protocol: text by chat or completions, vectors by embeddings.

The calls of a micro-batch wait together in one event loop, which is left at once where a job is canceled or its time is up, whatever the
provider is doing. No server is asked at the load: a provider that is away must not keep a worker from its other models.
"""

import asyncio
import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import httpx
import orjson
import structlog
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from domain import errors
from domain.contracts import Usage
from domain.errors import CanceledByUser, InferenceError, InvalidInput, InvalidOutput, ProviderBadAnswer, ProviderRefused, ProviderUnavailable
from domain.task_types import text_embedding, text_generation
from workers.backends.base import Inference, Run
from workers.json_schema import checked_schema, mismatch

log = structlog.get_logger(__name__)

ASK_EVERY_S = 0.05  # how long a stop flag may stay unseen
LINGER_S = 0.2  # for the end of a stream after its last event, so that the connection can be used again
KEEP_IDLE_S = 30.0  # providers and their load balancers close idle connections after a minute or so
MAX_SAID_CHARS = 500  # of a provider's own words in an error
_PATHS: Final = {"chat": "chat/completions", "completions": "completions", "embeddings": "embeddings"}
_POLICY: Final = ("content_policy", "content_filter", "moderation_blocked", "content policy", "content management policy")
_CONTEXT: Final = ("context_length_exceeded", "exceed_context_size", "maximum context length", "context window", "context size", "maximum input length")
_QUOTA: Final = ("insufficient_quota", "billing_hard_limit_reached")
_SAYS: Final[Mapping[type[InferenceError], str]] = {
    errors.ContentPolicy: "the provider's content policy does not allow this",
    errors.ContextTooLong: "the input is longer than the model's context",
    errors.ProviderRateLimited: "the provider takes no more requests just now",
    InvalidInput: "the provider cannot use this input",
}


class Options(BaseModel):
    """What the catalogue may say about the model.

    Attributes:
        base_url: of the server, up to the version: ``https://models.example/v1``. Redirects are not followed, no proxy is used.
        model: how the provider calls the model.
        api: which endpoint is asked; ``chat`` and ``completions`` do text.generation, ``embeddings`` text.embedding.
        key: name of the provider's key in ``MILLPOND_PROVIDER_KEYS``; without it no key is sent.
        calls: requests at the same time; more than ``max_batch_size`` are never needed.
        connect_timeout_s: for a connection.
        read_timeout_s: for each wait for more of the answer; so a model that does not stream must end within it.
        total_timeout_s: for one request from beginning to end; ends one that drips. The job's own time-out should be longer, as
            past that the platform kills the child and its other calls with it.
        stream: whether to ask for the answer piece by piece.
        max_answer_bytes: a longer answer is not read to its end.
        max_tokens_field: some providers call it ``max_completion_tokens``.
        system: the system message of a conversation that brings none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")]
    model: Annotated[str, StringConstraints(min_length=1)]
    api: Literal["chat", "completions", "embeddings"]
    key: str | None = None
    calls: Annotated[int, Field(ge=1, le=256)] = 16
    connect_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    read_timeout_s: Annotated[float, Field(gt=0, le=1_200)] = 60.0
    total_timeout_s: Annotated[float, Field(gt=0, le=1_200)] = 110.0
    stream: bool = True
    max_answer_bytes: Annotated[int, Field(ge=1_024)] = 32 * 1_048_576
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    system: str | None = None


@dataclass(slots=True)
class _Written:
    """What the provider has written so far for one job."""

    text: list[str] = field(default_factory=list)
    finish_reason: Literal["stop", "length"] | None = None
    usage: Usage = field(default_factory=Usage)


class OpenaiRemote:
    """Asks a provider. There are no files."""

    _options: Options
    _loop: asyncio.Runner
    _http: httpx.AsyncClient
    _key: str | None = None

    def take_key(self, key: str) -> None:
        """Keeps the key until the load."""
        self._key = key

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:  # noqa: ARG002  # the weights are elsewhere
        """Makes the client; connections are opened by the first jobs and kept.

        Raises:
            ConfigurationError: the options name a key that the settings do not hold, or one that no header can carry.
        """
        self._options = read = Options.model_validate(options)
        headers = {"accept-encoding": "identity", "user-agent": "millpond"}
        if read.key is not None:
            if not self._key:
                raise errors.ConfigurationError(f"MILLPOND_PROVIDER_KEYS: holds no key {read.key!r}, which a model of this pool needs")
            if not (self._key.isascii() and self._key.isprintable()):
                raise errors.ConfigurationError(f"MILLPOND_PROVIDER_KEYS: the key {read.key!r} is not of visible ASCII characters")
            headers["authorization"] = f"Bearer {self._key}"
        self._http = httpx.AsyncClient(
            base_url=read.base_url.rstrip("/") + "/",
            headers=headers,
            timeout=httpx.Timeout(read.read_timeout_s, connect=read.connect_timeout_s, pool=None),
            limits=httpx.Limits(max_connections=read.calls, max_keepalive_connections=read.calls, keepalive_expiry=KEEP_IDLE_S),
            trust_env=False,  # the environment is the settings' business; a .netrc would replace the key
            follow_redirects=False,  # the key is for the server that was named
        )
        self._loop = asyncio.Runner()

    def infer(self, inputs: Sequence[Any], run: Run) -> Sequence[Inference | InferenceError]:
        """Asks for all answers at the same time; each fails by itself."""
        return self._loop.run(self._all(inputs, run))

    def unload(self) -> None:
        """Closes the connections."""
        self._loop.run(self._http.aclose())
        self._loop.close()

    async def _all(self, inputs: Sequence[Any], run: Run) -> list[Inference | InferenceError]:
        turns = asyncio.Semaphore(self._options.calls)
        calls = [asyncio.create_task(self._one(value, turns, functools.partial(run.emit_text, job))) for job, value in enumerate(inputs)]
        try:
            waiting = set(calls)
            while waiting:
                for job, call in enumerate(calls):
                    if not call.done() and run.should_stop(job):
                        call.cancel()
                _, waiting = await asyncio.wait(waiting, timeout=ASK_EVERY_S)
        finally:
            for call in calls:
                call.cancel()  # after an exception above: what is still open has no reader
        return [CanceledByUser() if call.cancelled() else call.result() for call in calls]

    async def _one(self, value: Any, turns: asyncio.Semaphore, emit: Callable[[str], None]) -> Inference | InferenceError:
        """One job's result, or its own error: whatever goes wrong here must not make its mates be paid for again."""
        try:
            body = self._request(value)
            async with turns, asyncio.timeout(self._options.total_timeout_s):
                if isinstance(value, text_embedding.Input):
                    answers: list[dict[str, Any]] = []
                    await self._ask(body, answers.append)
                    return _vectors(answers[-1] if answers else {}, len(value.texts))
                written = _Written()
                await self._ask(body, lambda chunk: _hear(chunk, written, emit))
            return _result(value, written)
        except InferenceError as error:
            return error
        except TimeoutError:
            return ProviderUnavailable(f"the provider did not end its answer within {self._options.total_timeout_s:g} s")
        except Exception as error:
            log.exception("a call of a provider failed in a way of its own")
            return errors.ModelError(f"the provider's answer could not be used: {type(error).__name__}")

    def _request(self, value: Any) -> dict[str, Any]:
        """The job as the protocol has it.

        Raises:
            InvalidInput: the model cannot do this.
        """
        read = self._options
        if isinstance(value, text_embedding.Input) and read.api == "embeddings":
            return {"model": read.model, "input": value.texts, "encoding_format": "float"}
        if not isinstance(value, text_generation.Input) or read.api == "embeddings":
            raise InvalidInput(f"the {read.api} endpoint of a provider does not do this task")
        request: dict[str, Any] = {"model": read.model, read.max_tokens_field: value.max_tokens, "temperature": value.temperature}
        if read.api == "completions":
            if value.prompt is None:
                raise InvalidInput("this model takes a prompt, and no messages")
            if value.json_schema is not None:
                raise InvalidInput("this model takes no json_schema")
            request["prompt"] = value.prompt
        else:
            messages = [{"role": message.role, "content": message.content} for message in value.messages or ()]
            if value.prompt is not None:
                messages = [{"role": "user", "content": value.prompt}]
            if read.system and messages[0]["role"] != "system":
                messages.insert(0, {"role": "system", "content": read.system})
            request["messages"] = messages
        if value.stop:
            request["stop"] = value.stop
        if value.seed is not None:
            request["seed"] = value.seed
        if value.json_schema is not None:
            schema = {"name": "answer", "schema": dict(checked_schema(value.json_schema)), "strict": True}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        if read.stream:
            request |= {"stream": True, "stream_options": {"include_usage": True}}
        return request

    async def _ask(self, body: Mapping[str, Any], take: Callable[[dict[str, Any]], None]) -> None:
        """Sends a request and hands on the JSON objects of its answer: one, or one an event of a stream. Foreign errors become ours here."""
        headers = {"content-type": "application/json"}
        try:
            async with self._http.stream("POST", _PATHS[self._options.api], content=orjson.dumps(body), headers=headers) as response:
                if response.headers.get("content-encoding", "identity").lower() != "identity":
                    raise ProviderBadAnswer("the provider compressed its answer unasked")
                if response.status_code != httpx.codes.OK:
                    raise self._refusal(response.status_code, await self._whole(response), retry_after_s(response.headers.get("retry-after")))
                if response.headers.get("content-type", "").lower().startswith("text/event-stream"):
                    await self._hear_events(response, take)
                else:
                    take(self._parsed(await self._whole(response)))
        except httpx.TimeoutException as error:
            raise ProviderUnavailable(f"the provider did not answer in time ({type(error).__name__})") from error
        except httpx.HTTPError as error:
            raise ProviderUnavailable(f"the connection to the provider failed ({type(error).__name__})") from error

    async def _hear_events(self, response: httpx.Response, take: Callable[[dict[str, Any]], None]) -> None:
        lines, size = _Lines(), 0
        pieces = response.aiter_raw()
        async for piece in pieces:
            size = self._checked(size + len(piece))
            for data in lines.feed(piece):
                if data == b"[DONE]":
                    with contextlib.suppress(TimeoutError, httpx.HTTPError):
                        async with asyncio.timeout(LINGER_S):
                            async for rest in pieces:
                                size = self._checked(size + len(rest))
                    return
                take(self._parsed(data))

    async def _whole(self, response: httpx.Response) -> bytes:
        pieces, size = [], 0
        async for piece in response.aiter_raw():
            size = self._checked(size + len(piece))
            pieces.append(piece)
        return b"".join(pieces)

    def _checked(self, size_bytes: int) -> int:
        if size_bytes > self._options.max_answer_bytes:
            raise ProviderBadAnswer(f"the provider's answer is over {self._options.max_answer_bytes} bytes")
        return size_bytes

    def _parsed(self, data: bytes) -> dict[str, Any]:
        """A JSON object of an answer.

        Raises:
            InferenceError: it is none, or it is an error that was sent with status 200.
        """
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise ProviderBadAnswer("the provider's answer is not JSON") from error
        if not isinstance(value, dict):
            raise ProviderBadAnswer("the provider's answer is no JSON object")
        if value.get("error"):
            said = value["error"]
            status = said.get("code") if isinstance(said, dict) else None
            raise self._refusal(status if isinstance(status, int) and status >= 400 else 500, data, None)
        return value

    def _refusal(self, status: int, body: bytes, wait_s: float | None) -> InferenceError:
        """What a provider calls an error, as ours."""
        said, kinds = _said(body)
        said = (said.replace(self._key, "[key]") if self._key else said)[:MAX_SAID_CHARS]
        log.warning("a provider refused a request", status=status, model=self._options.model)
        kind = _kind(status, kinds)
        if kind is ProviderUnavailable:
            said = f"the provider answered {status}"
        elif kind is ProviderRefused:  # its own words may hold parts of the key
            said = f"the provider answered {status}: look at the model's base_url, model and key in the catalogue and the settings"
        return kind(f"{_SAYS[kind]}: {said}" if kind in _SAYS else said, retry_after_s=wait_s)


class _Lines:
    """Cuts a stream of bytes into the data of its server-sent events; the protocol keeps each on one line."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # of a line that has not ended; joined once, so that a long one costs no square

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The data of each event that has ended."""
        first, *more = piece.split(b"\n")
        self._rest.append(first)
        for begun in more:
            line = b"".join(self._rest).rstrip(b"\r")
            self._rest = [begun]
            if line.startswith(b"data:"):
                yield line[5:].strip()


def _kind(status: int, said: str) -> type[InferenceError]:
    """Which of our errors an answer is: by its words where it has some of the known ones, else by its status."""
    if any(word in said for word in _POLICY):
        return errors.ContentPolicy
    if any(word in said for word in _CONTEXT):
        return errors.ContextTooLong
    if status == 429 and not any(word in said for word in _QUOTA):
        return errors.ProviderRateLimited
    if status in {400, 413, 422}:
        return InvalidInput
    if status in {408, 409, 425} or status >= 500:
        return ProviderUnavailable
    return ProviderRefused


def _said(body: bytes) -> tuple[str, str]:
    """The message of an error's body, and all that tells its kind, in small letters."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "it says nothing that can be read", ""
    error = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(error, dict):
        message = str(error.get("message") or "it gives no reason")
        kinds = f"{error.get('code')} {error.get('type')} {message}"
    else:
        message = kinds = str(error)
    return message, kinds[:10_000].lower()


def retry_after_s(value: str | None) -> float | None:
    """Seconds from now that a Retry-After header asks for: a number of them, or a date. None where it says nothing that can be read."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        seconds = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _usage(chunk: Mapping[str, Any]) -> Usage:
    usage = chunk.get("usage")
    if not isinstance(usage, dict):
        return Usage()
    counts = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0) or 0
    if any(type(count) is not int or count < 0 for count in counts):
        raise ProviderBadAnswer("the provider's counts of tokens are not whole numbers")
    return Usage(*counts)


def _hear(chunk: Mapping[str, Any], written: _Written, emit: Callable[[str], None]) -> None:
    """Takes in a whole answer or one event of a stream, of either endpoint, and tells the watchers."""
    if chunk.get("usage"):
        written.usage = _usage(chunk)
    choices = chunk.get("choices", [] if "usage" in chunk else None)
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise ProviderBadAnswer("the provider's answer has no list of choices")
    for choice in choices[:1]:  # one answer was asked for
        said = choice.get("delta", choice.get("message", choice))
        if not isinstance(said, dict):
            raise ProviderBadAnswer("the provider's choice holds no message")
        reason = choice.get("finish_reason")
        if reason == "content_filter" or said.get("refusal"):
            raise errors.ContentPolicy("the provider's content policy does not allow the answer")
        if reason == "tool_calls":
            raise ProviderBadAnswer("the model wanted to call a tool, and was offered none")
        if reason is not None:
            written.finish_reason = "length" if reason == "length" else "stop"
        piece = said.get("content", said.get("text"))
        if piece is not None and not isinstance(piece, str):
            raise ProviderBadAnswer("the provider's text is no text")
        if piece:
            written.text.append(piece)
            emit(piece)


def _result(value: text_generation.Input, written: _Written) -> Inference | InferenceError:
    if written.finish_reason is None:
        return ProviderUnavailable("the provider ended its answer in the middle")
    text = "".join(written.text)
    if value.json_schema is not None and written.finish_reason == "stop" and not value.stop and (problem := mismatch(text, value.json_schema)):
        return InvalidOutput(f"the answer does not keep json_schema: {problem}")
    return Inference(text_generation.Output(text=text, finish_reason=written.finish_reason), written.usage)


def _vectors(answer: Mapping[str, Any], texts: int) -> Inference:
    """The vectors of an answer in the order of the texts, each brought to length 1.

    Raises:
        ProviderBadAnswer: they are not one vector of one size for each text.
    """
    data = answer.get("data")
    if not isinstance(data, list) or len(data) != texts or not all(isinstance(entry, dict) for entry in data):
        raise ProviderBadAnswer(f"the provider's answer does not hold {texts} vectors")
    by_index = {_place(entry.get("index", place)): entry.get("embedding") for place, entry in enumerate(data)}
    if set(by_index) != set(range(texts)):
        raise ProviderBadAnswer("the provider's vectors do not say which text each is for")
    vectors = [_unit(by_index[text]) for text in range(texts)]
    if len({len(vector) for vector in vectors}) != 1:
        raise ProviderBadAnswer("the provider's vectors differ in size")
    return Inference(text_embedding.Output(embeddings=vectors, dimensions=len(vectors[0])), _usage(answer))


def _place(index: object) -> int:
    return index if type(index) is int else -1


def _unit(vector: object) -> list[float]:
    if not isinstance(vector, list) or not all(type(number) in {int, float} for number in vector):
        raise ProviderBadAnswer("the provider's vector is no list of numbers")
    length = math.hypot(*vector)
    if not 0 < length < math.inf:
        raise ProviderBadAnswer("the provider's vector has no direction")
    return [number / length for number in vector]
