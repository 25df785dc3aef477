"""Text generation by llama.cpp (the xllamacpp binding) from a GGUF file: chat template, sampling, JSON by schema, deltas.

Each job of a micro-batch runs in a slot of its own and llama.cpp computes the slots together: 4 slots wrote 1.2 times the tokens of one
on one thread and 1.8 times on two, and the same tokens (``docs/decisions/0006-models-and-weights.md``).
"""

import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Annotated, Any, Final, Literal

import xllamacpp
from pydantic import BaseModel, ConfigDict, Field

from domain.failures import CanceledByUser, ContextTooLong, InferenceError, InvalidOutput, ModelError, UnsupportedInput
from domain.task_types.text_generation import Input, Output
from domain.usage import Usage
from workers.backends.base import Inference, Run
from workers.json_schema import checked_schema, mismatch

ASK_EVERY_S = 0.05  # how long a stop flag may stay unseen while no token comes
COMPACT: Final = {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}  # a small model else writes blanks without end


class Options(BaseModel):
    """What the catalogue may say about the model.

    Attributes:
        context_tokens: of one job: prompt and answer together.
        slots: jobs that are written at the same time; ``max_batch_size`` should not be more.
        threads: of one child. More than one only on cores that nothing else uses, or with ``OMP_WAIT_POLICY=passive`` in the
            environment: OpenMP's threads otherwise spin at every barrier, and on a busy host two wrote 15 times slower than one.
        system: the system message of a conversation that brings none. It matters: without one, SmolLM2's own template puts in a
            long one under which the 4-bit weights answer in nonsense French.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    context_tokens: Annotated[int, Field(ge=256, le=131_072)] = 2_048
    slots: Annotated[int, Field(ge=1, le=64)] = 1
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    system: str | None = None


@dataclass(slots=True)
class _Answer:
    """What the runtime has said so far for one job; filled by one thread, read by another after its end."""

    text: list[str] = field(default_factory=list)
    finish_reason: Literal["stop", "length"] | None = None
    usage: Usage = field(default_factory=Usage)
    error: InferenceError | None = None
    unwanted: bool = False


class Llama:
    """Runs a GGUF file; files: ``model``."""

    _options: Options
    _server: xllamacpp.Server
    _slots: ThreadPoolExecutor

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """Loads the weights, and shuts the door that llama.cpp's server opens.

        The binding always listens for HTTP. It is given a Unix socket in a folder of ours (0700), behind a random key, and the
        socket is unlinked at once: nobody can connect, and nothing is left behind when the process is killed.
        """
        self._options = Options.model_validate(options)
        door = Path(tempfile.mkdtemp(prefix="millpond-"))
        try:
            self._server = xllamacpp.Server(self._parameters(files["model"], door / "s.sock"))
        finally:
            shutil.rmtree(door)
        self._slots = ThreadPoolExecutor(self._options.slots, thread_name_prefix="slot")

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Writes all answers at the same time. Only the calling thread speaks to ``run``."""
        answers = [_Answer() for _ in inputs]
        said: SimpleQueue[tuple[int, str | None]] = SimpleQueue()  # (job, a piece of text), or (job, None) at its end
        futures = [self._slots.submit(self._write, value, answer, job, said) for job, (value, answer) in enumerate(zip(inputs, answers, strict=True))]
        try:
            self._relay(answers, said, run)
        finally:
            for answer in answers:
                answer.unwanted = True  # what is still being written has no reader, after an exception above
        for future in futures:
            future.result()
        return [_result(value, answer) for value, answer in zip(inputs, answers, strict=True)]

    def unload(self) -> None:
        """Frees the model."""
        self._slots.shutdown()
        del self._server

    def _parameters(self, model: Path, socket: Path) -> xllamacpp.CommonParams:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(model)
        parameters.n_ctx = self._options.context_tokens * self._options.slots
        parameters.n_parallel = self._options.slots
        parameters.cpuparams.n_threads = self._options.threads
        parameters.cpuparams_batch.n_threads = self._options.threads
        parameters.hostnames = [str(socket)]  # llama.cpp takes a name that ends in .sock for a Unix socket
        parameters.api_keys = [secrets.token_urlsafe(32)]
        parameters.n_threads_http = 1
        parameters.endpoint_slots = False
        # A prompt is not kept for the next job: no trace of one tenant's text in another's timing, and the same work every time.
        parameters.cache_prompt = False
        parameters.cache_ram_mib = 0
        parameters.prefill_assistant = False  # a conversation that ends with the assistant is answered, not continued
        parameters.verbosity = -1
        return parameters

    def _relay(self, answers: Sequence[_Answer], said: "SimpleQueue[tuple[int, str | None]]", run: Run) -> None:
        """Passes pieces on to the watchers, and stop flags to the writers, until every job has ended."""
        writing = set(range(len(answers)))
        while writing:
            try:
                job, piece = said.get(timeout=ASK_EVERY_S)
            except Empty:
                pass
            else:
                if piece is None:
                    writing.discard(job)
                elif not answers[job].unwanted:
                    run.emit_text(job, piece)
            for job in writing:
                answers[job].unwanted = answers[job].unwanted or run.should_stop(job)

    def _write(self, value: Input, answer: _Answer, job: int, said: "SimpleQueue[tuple[int, str | None]]") -> None:
        """Writes one answer; runs in a thread of its slot. llama.cpp leaves the interpreter's lock while it computes."""

        def hear(chunk: Mapping[str, Any]) -> bool:
            piece = _hear(chunk, answer)
            if piece:
                said.put((job, piece))
            return answer.unwanted  # True ends the writing

        try:
            if not answer.unwanted:
                self._server.handle_chat_completions(self._request(value), hear)
        except InferenceError as error:
            answer.error = error
        except (ValueError, TypeError) as error:  # the chat template or the grammar refuses the input
            answer.error = UnsupportedInput(f"the model cannot use this input: {error}")
        finally:
            said.put((job, None))

    def _request(self, value: Input) -> dict[str, Any]:
        """The job as an OpenAI-style request."""
        messages = [{"role": message.role, "content": message.content} for message in value.messages or ()]
        if value.prompt is not None:
            messages = [{"role": "user", "content": value.prompt}]
        if self._options.system and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": self._options.system})
        request: dict[str, Any] = {
            "messages": messages,
            "max_tokens": value.max_tokens,
            "temperature": value.temperature,
            "stop": value.stop,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if value.seed is not None:
            request["seed"] = value.seed
        if value.json_schema is not None:
            # As a grammar, not as response_format: that one lets the model wrap the JSON into a Markdown fence and pad it with blanks.
            request["grammar"] = xllamacpp.json_schema_to_grammar({**checked_schema(value.json_schema), "x-guidance": COMPACT})
        return request


def _hear(chunk: Mapping[str, Any], answer: _Answer) -> str | None:
    """Takes in one chunk; returns the piece of text in it."""
    if "error" in chunk:
        answer.error = _foreign(chunk["error"])
        return None
    if usage := chunk.get("usage"):
        answer.usage = Usage(input_tokens=usage["prompt_tokens"], output_tokens=usage["completion_tokens"])
    piece = None
    for choice in chunk["choices"]:
        if choice["finish_reason"] is not None:
            answer.finish_reason = "length" if choice["finish_reason"] == "length" else "stop"
        piece = choice["delta"].get("content")
        if piece:
            answer.text.append(piece)
    return piece


def _foreign(error: Mapping[str, Any]) -> InferenceError:
    """What llama.cpp's server calls an error, as ours."""
    if error.get("type") == "exceed_context_size_error":
        return ContextTooLong(f"the input has {error['n_prompt_tokens']} tokens; the model's context holds {error['n_ctx']}, the answer included")
    if error.get("code") == 400:
        return UnsupportedInput(f"the model cannot use this input: {error.get('message')}")
    return ModelError(str(error.get("message")))


def _result(value: Input, answer: _Answer) -> Inference | InferenceError:
    if answer.error is not None:
        return answer.error
    if answer.finish_reason is None:
        return CanceledByUser() if answer.unwanted else ModelError("the model stopped without a reason")
    text = "".join(answer.text)
    if value.json_schema is not None and answer.finish_reason == "stop" and not value.stop:
        problem = mismatch(text, value.json_schema)
        if problem:
            return InvalidOutput(f"the answer does not keep json_schema: {problem}")
    return Inference(Output(text=text, finish_reason=answer.finish_reason), answer.usage)
