"""Models behind any server that speaks OpenAI's protocol: text by chat or completions, vectors by embeddings, speech by transcriptions.

The calls of a micro-batch wait together in one event loop, which is left at once where a job is canceled or its time is up, whatever the
provider is doing. No server is asked at the load: a provider that is away must not keep a worker from its other models.
"""

import asyncio
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import orjson
import structlog
from pydantic import Field, StringConstraints

from domain.contracts import Blob
from domain.errors import ConfigurationError
from domain.failures import CanceledByUser, InferenceError, InvalidOutput, ModelError, ProviderUnavailable, UnsupportedInput, UnsupportedLanguage
from domain.media import FORMATS
from domain.task_types import audio_transcription, text_embedding, text_generation
from domain.trace import continued
from workers.backends.base import Inference, Run
from workers.json_schema import checked_schema, mismatch
from workers.openai_protocol import Heard, transcript_of, vectors_of
from workers.provider import Provider, ProviderOptions

log = structlog.get_logger(__name__)

ASK_EVERY_S = 0.05  # how long a stop flag may stay unseen
_PATHS: Final = {"chat": "chat/completions", "completions": "completions", "embeddings": "embeddings", "transcription": "audio/transcriptions"}


class Options(ProviderOptions):
    """What the catalogue may say about the model, besides what it says about the provider.

    Attributes:
        model: how the provider calls the model.
        api: which endpoint is asked; ``chat`` and ``completions`` do text.generation, ``embeddings`` text.embedding, ``transcription``
            audio.transcription.
        stream: whether to ask for the answer piece by piece.
        max_tokens_field: some providers call it ``max_completion_tokens``.
        system: the system message of a conversation that brings none.
        transcript: the form in which ``transcription`` is asked for; some models give ``json`` alone, without segments, language and duration.
        languages: those that ``transcription`` knows, as ISO 639; a job that names another is refused unasked. All where it is not given.
    """

    model: Annotated[str, StringConstraints(min_length=1)]
    api: Literal["chat", "completions", "embeddings", "transcription"]
    stream: bool = True
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    system: str | None = None
    transcript: Literal["verbose_json", "json"] = "verbose_json"
    languages: Annotated[tuple[audio_transcription.Language, ...], Field(min_length=1)] | None = None


@dataclass(frozen=True, slots=True)
class _Call:
    """One job's request: what it is about, where its text goes, the headers that its trace asks for, and what was heard so far."""

    value: Any
    audio: Blob | None
    emit: Callable[[str], None]
    headers: Mapping[str, str]
    heard: Heard = field(default_factory=Heard)


class OpenaiRemote:
    """Asks a provider. There are no files."""

    _options: Options
    _loop: asyncio.Runner
    _provider: Provider
    _key: str | None = None

    def take_key(self, key: str) -> None:
        """Keeps the key until the load."""
        self._key = key

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:  # noqa: ARG002  # the weights are elsewhere
        """Makes the client; connections are opened by the first jobs and kept.

        Raises:
            ConfigurationError: the options name a key that the settings do not hold.
        """
        self._options = Options.model_validate(options)
        name = self._options.key
        if name is not None and not self._key:
            raise ConfigurationError(f"MILLPOND_PROVIDER_KEYS: holds no key {name!r}, which the model needs")
        self._provider = Provider(self._options, self._key if name is not None else None)
        self._loop = asyncio.Runner()

    def infer(self, inputs: Sequence[Any], run: Run) -> Sequence[Inference | InferenceError]:
        """Asks for all answers at the same time; each fails by itself."""
        return self._loop.run(self._all(inputs, run))

    def unload(self) -> None:
        """Closes the connections."""
        self._loop.run(self._provider.close())
        self._loop.close()

    async def _all(self, inputs: Sequence[Any], run: Run) -> list[Inference | InferenceError]:
        turns = asyncio.Semaphore(self._options.calls)
        blobs = run.blobs or [{}] * len(inputs)
        traces = run.traceparents or [None] * len(inputs)
        asked = [
            _Call(value, blobs[job].get("audio"), functools.partial(run.emit_text, job), continued(traces[job], os.urandom(8)))
            for job, value in enumerate(inputs)
        ]
        calls = [asyncio.create_task(self._one(call, turns)) for call in asked]
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

    async def _one(self, call: "_Call", turns: asyncio.Semaphore) -> Inference | InferenceError:
        """One job's result, or its own error: whatever goes wrong here must not make its mates be paid for again."""
        try:
            async with turns, asyncio.timeout(self._options.total_timeout_s):
                return await self._answer(call)
        except InferenceError as error:
            failure = error
        except TimeoutError:
            failure = ProviderUnavailable(f"the provider did not end its answer within {self._options.total_timeout_s:g} s")
        except Exception as error:
            log.exception("a call of a provider failed in a way of its own")
            failure = ModelError(f"the provider's answer could not be used: {type(error).__name__}")
        failure.usage = call.heard.usage  # what was read of it before it failed is paid for
        return failure

    async def _answer(self, call: "_Call") -> Inference:
        """Asks the endpoint of the model for what the job wants.

        Raises:
            InferenceError: the endpoint does not do the task, or anything that went wrong.
        """
        api, value = self._options.api, call.value
        if isinstance(value, text_embedding.Input) and api == "embeddings":
            return await self._embed(value, call)
        if isinstance(value, text_generation.Input) and api in {"chat", "completions"}:
            await self._ask(call, self._writing(value), functools.partial(call.heard.take_text, emit=call.emit))
            return _written(value, call.heard)
        if isinstance(value, audio_transcription.Input) and call.audio is not None and api == "transcription":
            return await self._transcribe(value, call.audio, call)
        raise UnsupportedInput(f"the {api} endpoint of a provider does not do this task")

    async def _embed(self, value: text_embedding.Input, call: "_Call") -> Inference:
        answers: list[dict[str, Any]] = []
        await self._ask(call, {"model": self._options.model, "input": value.texts, "encoding_format": "float"}, answers.append)
        said = answers[-1] if answers else {}
        call.heard.take_usage(said)
        vectors = vectors_of(said, len(value.texts))
        return Inference(text_embedding.Output(embeddings=vectors, dimensions=len(vectors[0])), call.heard.usage)

    async def _transcribe(self, value: audio_transcription.Input, audio: Blob, call: "_Call") -> Inference:
        known = self._options.languages
        if known is not None and value.language is not None and value.language not in known:
            raise UnsupportedLanguage(f"the model does not know the language {value.language}; it knows {', '.join(sorted(known))}")
        fields = {"model": self._options.model, "response_format": self._options.transcript, **({"language": value.language} if value.language else {})}
        name = f"audio.{FORMATS[audio.content_type][1]}"  # servers tell the format by it
        answers: list[dict[str, Any]] = []
        content = {"data": fields, "files": {"file": (name, audio.content, audio.content_type)}}
        await self._provider.ask(_PATHS["transcription"], answers.append, headers=call.headers, **content)
        said = answers[-1] if answers else {}
        call.heard.take_usage(said)
        transcript = transcript_of(said, value.language)
        segments = [audio_transcription.Segment(start_s=start_s, end_s=end_s, text=text) for start_s, end_s, text in transcript.segments]
        output = audio_transcription.Output(text=transcript.text, language=transcript.language, duration_s=transcript.duration_s, segments=segments)
        return Inference(output, call.heard.usage)

    async def _ask(self, call: "_Call", body: Mapping[str, Any], take: Callable[[dict[str, Any]], None]) -> None:
        headers = {"content-type": "application/json", **call.headers}
        await self._provider.ask(_PATHS[self._options.api], take, headers=headers, content=orjson.dumps(body))

    def _writing(self, value: text_generation.Input) -> dict[str, Any]:
        """The job as the protocol has it.

        Raises:
            UnsupportedInput: the model cannot do this.
            InvalidInput: ``json_schema`` is none.
        """
        read = self._options
        request: dict[str, Any] = {"model": read.model, read.max_tokens_field: value.max_tokens, "temperature": value.temperature}
        if read.api == "completions":
            if value.prompt is None:
                raise UnsupportedInput("this model takes a prompt, and no messages")
            if value.json_schema is not None:
                raise UnsupportedInput("this model takes no json_schema")
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


def _written(value: text_generation.Input, heard: Heard) -> Inference:
    if heard.finish_reason is None:
        raise ProviderUnavailable("the provider ended its answer in the middle")
    text = "".join(heard.text)
    if value.json_schema is not None and heard.finish_reason == "stop" and not value.stop and (problem := mismatch(text, value.json_schema)):
        raise InvalidOutput(f"the answer does not keep json_schema: {problem}")
    return Inference(text_generation.Output(text=text, finish_reason=heard.finish_reason), heard.usage)
