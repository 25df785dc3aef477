"""A provider of models over HTTP: connections that are kept, answers within bounds, foreign errors mapped to ours.

What is asked and what an answer means is its callers' business; see ``workers.openai_protocol``.
"""

import asyncio
import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Final

import httpx
import orjson
import structlog
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from domain import failures
from domain.failures import InferenceError, ProviderBadAnswer, ProviderRefused, ProviderUnavailable, UnsupportedInput

log = structlog.get_logger(__name__)

LINGER_S = 0.2  # for the end of a stream after its last event, so that the connection can be used again
KEEP_IDLE_S = 30.0  # providers and their load balancers close idle connections after a minute or so
MAX_SAID_CHARS = 500  # of a provider's own words in an error
_POLICY: Final = ("content_policy", "content_filter", "moderation_blocked", "content policy", "content management policy")
_CONTEXT: Final = ("context_length_exceeded", "exceed_context_size", "maximum context length", "context window", "context size", "maximum input length")
_MODEL: Final = ("model_not_found", "invalid_model")  # with status 400, which many give for it
_MODEL_OPENING: Final = re.compile(
    r"(/[\w/]+: )?(model not found|unknown model|invalid model( name|:)|(the )?model [`'\"][^`'\"]*[`'\"] (not found|does not exist))"
)
_QUOTA: Final = ("insufficient_quota", "billing_hard_limit_reached")
_SAYS: Final[Mapping[type[InferenceError], str]] = {
    failures.ContentPolicy: "the provider's content policy does not allow this",
    failures.ContextTooLong: "the input is longer than the model's context",
    failures.ProviderRateLimited: "the provider takes no more requests just now",
    UnsupportedInput: "the provider cannot use this input",
}


class ProviderOptions(BaseModel):
    """What the catalogue may say about a provider.

    Attributes:
        base_url: of the server, up to the version: ``https://models.example/v1``. Redirects are not followed, no proxy is used.
        key: name of the provider's key in ``MILLPOND_PROVIDER_KEYS``; without it no key is sent.
        calls: requests at the same time; more than ``max_batch_size`` are never needed.
        connect_timeout_s: for a connection.
        read_timeout_s: for each wait for more of the answer; so a model that does not stream must end within it.
        total_timeout_s: for one request from beginning to end; ends one that drips. The job's own time-out should be longer, as
            past that the platform kills the child and its other calls with it.
        max_answer_bytes: a longer answer is not read to its end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")]
    key: str | None = None
    calls: Annotated[int, Field(ge=1, le=256)] = 16
    connect_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    read_timeout_s: Annotated[float, Field(gt=0, le=1_200)] = 60.0
    total_timeout_s: Annotated[float, Field(gt=0, le=1_200)] = 110.0
    max_answer_bytes: Annotated[int, Field(ge=1_024)] = 32 * 1_048_576


class Provider:
    """One server. Nothing is connected before the first request; the connection that was free last is used first.

    Args:
        options: where it is, and the bounds.
        key: sent with every request, and taken out of whatever it says.
    """

    def __init__(self, options: ProviderOptions, key: str | None) -> None:
        self._options = options
        self._key = key
        self._tls = httpx.create_ssl_context(trust_env=False)  # reading the certificates takes longer than all else
        self._free: list[httpx.AsyncClient] = []

    async def close(self) -> None:
        """Closes the connections."""
        for client in self._free:
            await client.aclose()

    def _client(self) -> httpx.AsyncClient:
        """A client with one connection. One with all of them looks through all for each, again and again: with 64, a call took 25 ms of CPU and more."""
        return httpx.AsyncClient(
            base_url=self._options.base_url.rstrip("/") + "/",
            headers={"accept-encoding": "identity", "user-agent": "millpond", **({"authorization": f"Bearer {self._key}"} if self._key else {})},
            timeout=httpx.Timeout(self._options.read_timeout_s, connect=self._options.connect_timeout_s, pool=None),
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEP_IDLE_S),
            verify=self._tls,
            trust_env=False,  # the environment is the settings' business; a .netrc would replace the key
            follow_redirects=False,  # the key is for the server that was named
        )

    async def ask(self, path: str, take: Callable[[dict[str, Any]], None], **content: Any) -> None:
        """Sends a request and hands on the JSON objects of its answer: one, or one an event of a stream.

        Args:
            path: below ``base_url``.
            take: is given each object; what it raises ends the request.
            content: ``headers``, and the body as httpx takes it: ``content``, or ``data`` and ``files``.

        Raises:
            InferenceError: foreign errors become ours here.
        """
        client = self._free.pop() if self._free else self._client()
        try:
            async with client.stream("POST", path, **content) as response:
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
        finally:
            self._free.append(client)

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
        refusal = _said(body)
        said = (refusal.message.replace(self._key, "[key]") if self._key else refusal.message)[:MAX_SAID_CHARS]
        log.warning("a provider refused a request", status=status, provider=self._options.base_url)
        kind = _kind(status, refusal)
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


@dataclass(frozen=True, slots=True)
class _Said:
    """What an error's body says.

    Attributes:
        message: for people; it may hold what the user wrote.
        kind: its code and type in small letters: the provider's own words.
        param: what in the request it is about.
    """

    message: str
    kind: str = ""
    param: str | None = None

    @property
    def blames_model(self) -> bool:
        """Whether there is no such model. A message can repeat the input, so only its beginning counts, and not where it is about another field."""
        if any(word in self.kind for word in _MODEL):
            return True
        return self.param in {None, "", "None", "model"} and _MODEL_OPENING.match(self.message.lower()) is not None


def _kind(status: int, refusal: _Said) -> type[InferenceError]:
    """Which of our errors an answer is: by its words where it has some of the known ones, else by its status."""
    said = f"{refusal.kind} {refusal.message}"[:10_000].lower()
    if any(word in said for word in _POLICY):
        return failures.ContentPolicy
    if any(word in said for word in _CONTEXT):
        return failures.ContextTooLong
    if status == 429 and not any(word in said for word in _QUOTA):
        return failures.ProviderRateLimited
    if status in {400, 413, 422} and not refusal.blames_model:
        return UnsupportedInput  # our contract has taken it; what else the model takes, its provider alone knows
    if status in {408, 409, 425} or (status >= 500 and status != httpx.codes.NOT_IMPLEMENTED):  # a model that cannot do it will not learn
        return ProviderUnavailable
    return ProviderRefused


def _said(body: bytes) -> _Said:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _Said("it says nothing that can be read")
    error = value
    for inside in ("detail", "error"):  # a server made with FastAPI puts into a detail what it says, OpenAI's form included
        error = error.get(inside, error) if isinstance(error, dict) else error
    if isinstance(error, list):  # FastAPI's own words about a form
        error = "; ".join(_complaint(each) for each in error[:10])
    if not isinstance(error, dict):
        return _Said(str(error))
    param = error.get("param")
    return _Said(str(error.get("message") or "it gives no reason"), f"{error.get('code')} {error.get('type')}".lower(), None if param is None else str(param))


def _complaint(said: object) -> str:
    """What FastAPI says of one field, without what was in it."""
    if not isinstance(said, dict):
        return str(said)
    place = said.get("loc")
    return f"{'.'.join(map(str, place)) if isinstance(place, list) else 'a field'}: {said.get('msg')}"


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
