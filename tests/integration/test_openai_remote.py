"""The remote backend against providers on loopback ports: what is asked, what is read, and every way in which they fail."""

import stat
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from domain.catalogue import parse_catalogue
from domain.contracts import Blob
from domain.errors import ConfigurationError
from domain.failures import CanceledByUser, InferenceError
from domain.task_types import audio_transcription, text_embedding, text_generation
from domain.usage import Usage
from settings import load_settings
from tests.conformance.harness import Heard, run_of
from tests.support.providers import asked, by_prompt, chat, piece, refusing, saying, streaming, vectors
from tests.support.receivers import Manner, Receiver, answering, bomb, closing, dripping, endless, hanging, resetting
from tests.support.waiting import wait_until
from tests.support.worker_parts import worker_config
from workers.backends.base import Inference
from workers.backends.openai_remote import OpenaiRemote, Options
from workers.board import Board
from workers.child import BOARD_FILE, PLACES_PER_SLOT, Context
from workers.openai_protocol import transcript_of
from workers.provider import retry_after_s

pytestmark = pytest.mark.timeout(20)  # each call here has an end of its own; without it, this one
KEY = "sk-of-the-tests-0123456789"
BOUNDS = {"connect_timeout_s": 2.0, "read_timeout_s": 3.0, "total_timeout_s": 4.0}  # so that a bound that is gone shows as another's error
Make = Callable[..., OpenaiRemote]


@pytest.fixture
def provider() -> Iterator[Receiver]:
    with Receiver(chat()) as receiver:
        yield receiver


@pytest.fixture
def make(provider: Receiver) -> Iterator[Make]:
    """Loads the backend on the provider; what is made is closed at the end."""
    made: list[OpenaiRemote] = []

    def load(api: str = "chat", **options: Any) -> OpenaiRemote:
        backend = OpenaiRemote()
        backend.take_key(KEY)
        backend.load({"base_url": f"http://127.0.0.1:{provider.port}/v1", "model": "m", "api": api, "key": "tests", **BOUNDS, **options}, {})
        made.append(backend)
        return backend

    yield load
    for backend in made:
        backend.unload()


def write(prompt: str = "Hi", **more: Any) -> text_generation.Input:
    return text_generation.Input.model_validate({"prompt": prompt, **more})


def embed(*texts: str) -> text_embedding.Input:
    return text_embedding.Input(texts=list(texts))


def one(backend: OpenaiRemote, value: Any = None, **more: Any) -> Any:
    (result,) = backend.infer([value if value is not None else write()], run_of(1, **more))
    return result


def codes(results: Sequence[Inference | InferenceError]) -> list[str]:
    return [result.code if isinstance(result, InferenceError) else "ok" for result in results]


# --- what is asked and read -----------------------------------------------------------------------------------------------


def test_chat_whole_answer_is_read_with_its_usage(provider: Receiver, make: Make) -> None:
    result = one(make(stream=False, system="Be short."), write(max_tokens=7, temperature=0.5, seed=3, stop=["x"]))

    assert result == Inference(text_generation.Output(text="Hello.", finish_reason="stop"), Usage(11, 3))
    assert provider.got[0].line == "POST /v1/chat/completions HTTP/1.1"
    assert provider.got[0].headers["authorization"] == f"Bearer {KEY}"
    assert asked(provider.got[0]) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}],
        "max_tokens": 7,
        "temperature": 0.5,
        "seed": 3,
        "stop": ["x"],
    }


@pytest.mark.parametrize("cut", [1, 7, 100_000])
def test_chat_stream_is_told_piece_by_piece(provider: Receiver, make: Make, cut: int) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}
    provider.manner = streaming(piece("Grüß"), piece(" dich"), piece(None, "length"), usage, cut=cut)
    heard = Heard()

    result = one(make(max_tokens_field="max_completion_tokens"), heard=heard)

    assert result == Inference(text_generation.Output(text="Grüß dich", finish_reason="length"), Usage(4, 2))
    assert heard.text == {0: ["Grüß", " dich"]}
    sent = asked(provider.got[0])
    assert (sent["stream"], sent["stream_options"], sent["max_completion_tokens"]) == (True, {"include_usage": True}, 128)


def test_completions_prompt_is_answered_and_messages_are_refused(provider: Receiver, make: Make) -> None:
    provider.manner = saying({"choices": [{"text": " Paris", "index": 0, "finish_reason": "stop"}]})
    backend = make("completions")
    messages = text_generation.Input.model_validate({"messages": [{"role": "user", "content": "Hi"}]})

    first, second, third = backend.infer([write(), messages, write(json_schema={})], run_of(3))

    assert first == Inference(text_generation.Output(text=" Paris", finish_reason="stop"), Usage())
    assert codes([second, third]) == ["unsupported_input"] * 2
    assert [(request.line, asked(request)["prompt"]) for request in provider.got] == [("POST /v1/completions HTTP/1.1", "Hi")]


def test_embedding_vectors_come_in_the_order_of_the_texts_and_of_length_one(provider: Receiver, make: Make) -> None:
    provider.manner = vectors([3, 4.0], [0.0, 2.0], order=[1, 0])

    result = one(make("embeddings"), embed("a", "b"))

    assert result == Inference(text_embedding.Output(embeddings=[[0.6, 0.8], [0.0, 1.0]], dimensions=2), Usage(5, 0))
    assert asked(provider.got[0]) == {"model": "m", "input": ["a", "b"], "encoding_format": "float"}


SPOKEN = {
    "task": "transcribe",
    "language": "english",
    "duration": "2.3",
    "text": " A mill pond. ",
    "segments": [{"id": 0, "seek": 0, "start": 0, "end": 1.25, "text": " A mill"}, {"id": 1, "start": 1.25, "end": 2.25, "text": " pond."}],
    "usage": {"type": "tokens", "input_tokens": 23, "output_tokens": 4},
}


def transcribe(backend: OpenaiRemote, **fields: Any) -> Any:
    value = audio_transcription.Input.model_validate({"audio": {"file_id": "file_x"}, **fields})
    run = replace(run_of(1), blobs=[{"audio": Blob(b"OggS\x00\r\n--sound", "audio/ogg")}])
    (result,) = backend.infer([value], run)
    return result


@pytest.mark.parametrize(("asked_for", "expected"), [(None, "en"), ("fr", "fr")])
def test_transcription_sends_the_recording_and_reads_its_segments(provider: Receiver, make: Make, asked_for: str | None, expected: str) -> None:
    provider.manner = saying(SPOKEN)

    result = transcribe(make("transcription"), language=asked_for)

    assert result.usage == Usage(23, 4)
    assert result.output.model_dump() == {
        "text": "A mill pond.",
        "language": expected,
        "duration_s": 2.3,
        "segments": [{"start_s": 0.0, "end_s": 1.25, "text": "A mill"}, {"start_s": 1.25, "end_s": 2.25, "text": "pond."}],
    }
    (request,) = provider.got
    assert request.line == "POST /v1/audio/transcriptions HTTP/1.1"
    form = message_from_bytes(f"content-type: {request.headers['content-type']}\r\n\r\n".encode() + request.body, policy=policy.HTTP)
    parts = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}
    sent = {name: part.get_payload(decode=True) for name, part in parts.items()}
    assert sent.pop("file") == b"OggS\x00\r\n--sound"
    assert (parts["file"].get_filename(), parts["file"].get_content_type()) == ("audio.ogg", "audio/ogg")
    assert sent == {"model": b"m", "response_format": b"verbose_json", **({"language": b"fr"} if asked_for else {})}


@pytest.mark.parametrize(
    "said",
    [{}, {"text": 1}, {**SPOKEN, "duration": "long"}, {**SPOKEN, "duration": -1}, {**SPOKEN, "segments": {}}, {**SPOKEN, "segments": [{}]},
     {**SPOKEN, "segments": [{"text": "a", "start": True, "end": 1}]}],
)  # fmt: skip
def test_transcript_that_cannot_be_used_is_a_bad_answer(provider: Receiver, make: Make, said: Any) -> None:
    provider.manner = saying(said)
    assert transcribe(make("transcription")).code == "provider_bad_answer"


@pytest.mark.parametrize(("more", "expected"), [({}, None), ({"usage": {"type": "duration", "seconds": 3}}, 3.0), ({"segments": SPOKEN["segments"]}, 2.25)])
def test_transcript_without_a_duration_has_the_best_that_is_said(provider: Receiver, make: Make, more: Any, expected: float | None) -> None:
    provider.manner = saying({"text": "A mill pond.", **more})
    output = transcribe(make("transcription", transcript="json")).output
    assert (output.text, output.language, output.duration_s) == ("A mill pond.", "und", expected)
    assert b"verbose" not in provider.got[0].body


@pytest.mark.parametrize(("said", "expected"), [("de", "de"), ("Klingon", "und"), (None, "und"), ("yue", "yue")])
def test_transcript_says_its_language_by_code(said: Any, expected: str) -> None:
    assert transcript_of({**SPOKEN, "language": said}, None).language == expected


def test_language_that_the_model_does_not_know_is_refused_unasked(provider: Receiver, make: Make) -> None:
    provider.manner = saying(SPOKEN)
    backend = make("transcription", languages=["en", "de"])
    error = transcribe(backend, language="zz")
    assert (error.code, error.message) == ("unsupported_language", "the model does not know the language zz; it knows de, en")
    assert not provider.got
    assert codes([transcribe(backend, language="de"), transcribe(backend), transcribe(make("transcription"), language="zz")]) == ["ok"] * 3


def test_null_in_a_transcript_says_nothing(provider: Receiver, make: Make) -> None:
    usage = {"prompt_tokens": None, "input_tokens": 3, "completion_tokens": None}
    provider.manner = saying({"text": "hi", "segments": None, "language": "en", "duration": 1.0, "usage": usage})
    result = transcribe(make("transcription"))
    assert result.output.model_dump() == {"text": "hi", "language": "en", "duration_s": 1.0, "segments": []}
    assert result.usage == Usage(3, 0)


def test_null_in_an_answer_says_nothing(provider: Receiver, make: Make) -> None:
    provider.manner = saying(
        {
            "choices": [{"delta": None, "message": {"content": "Hello.", "refusal": None}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": None, "completion_tokens": 3},
        }
    )
    assert one(make()) == Inference(text_generation.Output(text="Hello.", finish_reason="stop"), Usage(0, 3))


def test_task_that_the_endpoint_does_not_do_is_refused_unasked(provider: Receiver, make: Make) -> None:
    assert codes([one(make("embeddings")), one(make("chat"), embed("a")), one(make("transcription")), transcribe(make())]) == ["unsupported_input"] * 4
    assert not provider.got


def test_json_schema_is_sent_and_the_answer_held_to_it(provider: Receiver, make: Make) -> None:
    backend, schema = make(), {"type": "object", "required": ["a"]}
    manners = {"good": chat('{"a": 1}'), "bad": chat("{}"), "prose": chat("Sure! {}"), "cut": chat('{"a', finish_reason="length")}
    provider.manner = by_prompt(manners, chat())

    results = backend.infer([write(prompt, json_schema=schema) for prompt in manners], run_of(4))

    assert codes(results) == ["ok", "invalid_output", "invalid_output", "ok"]
    assert asked(provider.got[0])["response_format"] == {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    assert one(backend, write(json_schema={"type": "nothing"})).code == "invalid_input"
    assert len(provider.got) == 4


@pytest.mark.parametrize("manner", [chat(), streaming(piece("a", "stop"))])
def test_connection_is_used_again(provider: Receiver, make: Make, manner: Manner) -> None:
    provider.manner = manner
    backend = make()
    assert codes([one(backend) for _ in range(5)]) == ["ok"] * 5
    assert provider.connections == 1


def test_connection_closed_between_jobs_is_replaced(provider: Receiver, make: Make) -> None:
    backend = make()
    provider.manner = chat_and_close
    assert codes([one(backend)]) == ["ok"]
    assert wait_until(lambda: not provider.open)
    provider.manner = chat()
    assert codes([one(backend)]) == ["ok"]
    assert provider.connections == 2


def chat_and_close(connection: Any, request: Any) -> bool:
    chat()(connection, request)
    return False


def test_calls_of_a_micro_batch_are_made_at_the_same_time_up_to_the_bound(provider: Receiver, make: Make) -> None:
    together = threading.Barrier(4)

    def manner(connection: Any, request: Any) -> bool:
        together.wait(2)
        return chat()(connection, request)

    provider.manner = manner
    assert codes(make(calls=4).infer([write()] * 8, run_of(8))) == ["ok"] * 8
    assert provider.connections == 4


# --- faults ---------------------------------------------------------------------------------------------------------------


def no_http(connection: Any, _: Any) -> bool:
    connection.sendall(b"SSH-2.0-x\r\n\r\n")
    return False


GZIP = answering(headers={"content-encoding": "gzip", "content-type": "application/json"}, body=b"x")
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
FAULTS: list[tuple[str, Manner, str, bool]] = [
    ("rate", refusing(429), "provider_rate_limited", True),
    ("quota", refusing(429, code="insufficient_quota"), "provider_refused", False),
    ("500", refusing(500), "provider_unavailable", True),
    ("500 without JSON", saying(b"<html>", 500), "provider_unavailable", True),
    ("503", refusing(503), "provider_unavailable", True),
    ("529", refusing(529), "provider_unavailable", True),
    ("408", refusing(408), "provider_unavailable", True),
    ("401", refusing(401, f"Incorrect API key provided: {KEY}"), "provider_refused", False),
    ("403", refusing(403), "provider_refused", False),
    ("404", refusing(404, code="model_not_found"), "provider_refused", False),
    ("redirect", answering(307, headers={"location": "http://127.0.0.1:9/"}), "provider_refused", False),
    ("501", refusing(501), "provider_refused", False),
    ("400", refusing(400, "bad top_p"), "unsupported_input", False),
    ("400 for the model", refusing(400, "unknown model: m"), "provider_refused", False),
    ("400 for the model by code", refusing(400, code="model_not_found"), "provider_refused", False),
    (
        "400 for the model by LiteLLM",
        saying({"error": {"message": "/chat/completions: Invalid model name passed in model=m", "param": "None"}}, 400),
        "provider_refused",
        False,
    ),
    ("400 for the model by vLLM", refusing(400, "The model `m` does not exist."), "provider_refused", False),
    ("400 with the user's words", refusing(400, "schema: property 'unknown model' has no type"), "unsupported_input", False),
    ("400 for another field", saying({"error": {"message": "unknown model: oops", "param": "response_format"}}, 400), "unsupported_input", False),
    ("400 in a detail", saying({"detail": {"error": {"message": "x", "code": "context_length_exceeded"}}}, 400), "context_too_long", False),
    ("context", refusing(400, code="context_length_exceeded"), "context_too_long", False),
    ("context by words", refusing(400, "This model's maximum context length is 8 tokens"), "context_too_long", False),
    ("policy", refusing(400, code="content_policy_violation"), "content_policy", False),
    ("policy of the answer", chat("", finish_reason="content_filter"), "content_policy", False),
    ("refusal", chat(None, refusal="I will not"), "content_policy", False),
    ("policy in the stream", streaming(piece("a"), piece(None, "content_filter")), "content_policy", False),
    ("garbage", saying(b"\x00\xff{"), "provider_bad_answer", True),
    ("empty", saying(b""), "provider_bad_answer", True),
    ("list", saying([]), "provider_bad_answer", True),
    ("no choices", saying({"choices": None}), "provider_bad_answer", True),
    ("odd choices", saying({"choices": [1]}), "provider_bad_answer", True),
    ("odd message", saying({"choices": [{"message": "x"}]}), "provider_bad_answer", True),
    ("odd text", chat([1]), "provider_bad_answer", True),
    ("tool", chat(None, finish_reason="tool_calls"), "provider_bad_answer", True),
    ("odd usage", chat(usage={"prompt_tokens": -1, "completion_tokens": 1}), "provider_bad_answer", True),
    ("NaN", saying(b'{"choices": NaN}'), "provider_bad_answer", True),
    ("unasked gzip", GZIP, "provider_bad_answer", True),
    ("gzip bomb", bomb, "provider_bad_answer", True),
    ("endless", endless, "provider_bad_answer", True),
    ("error with 200", saying({"error": {"message": "x"}}), "provider_unavailable", True),
    ("error in the stream", streaming(piece("a"), {"error": {"message": "x", "code": 503}}), "provider_unavailable", True),
    ("context in the stream", streaming({"error": {"message": "x", "code": 400, "type": "exceed_context_size_error"}}), "context_too_long", False),
    ("wrong JSON in the stream", streaming(piece("a"), b"{oops"), "provider_bad_answer", True),
    ("end in the stream", streaming(piece("a")), "provider_unavailable", True),
    ("empty stream", streaming(done=False), "provider_unavailable", True),
    ("cut stream", streaming(piece("a"), piece("b"), done=False, ended=False), "provider_unavailable", True),
    ("reset", resetting, "provider_unavailable", True),
    ("close", closing, "provider_unavailable", True),
    ("no HTTP", no_http, "provider_unavailable", True),
]


@pytest.mark.parametrize(("manner", "code", "retryable"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_fault_has_its_code_and_the_provider_can_come_back(provider: Receiver, make: Make, manner: Manner, code: str, retryable: bool) -> None:
    backend = make(max_answer_bytes=1_048_576)
    provider.manner = manner

    error = one(backend)

    assert (error.code, error.retryable) == (code, retryable), error
    assert KEY not in error.message
    provider.manner = chat()
    assert codes([one(backend)]) == ["ok"]


VECTORS: list[tuple[str, Manner]] = [
    ("one too few", vectors([1.0])),
    ("no list", saying({"data": {}})),
    ("no object", saying({"data": [1, 2]})),
    ("two sizes", vectors([1.0], [1.0, 2.0])),
    ("zeros", vectors([0.0], [1.0])),
    ("overflow", vectors([1.7e308, 1.7e308], [1.0, 1.0])),
    ("text", vectors(["a"], [1.0])),
    ("booleans", vectors([True], [1.0])),
    ("empty", vectors([], [])),
    ("twice the same", saying({"data": [{"index": 0, "embedding": [1.0]}] * 2})),
    ("odd index", saying({"data": [{"index": [], "embedding": [1.0]}, {"index": 1, "embedding": [1.0]}]})),
]


@pytest.mark.parametrize("manner", [manner for _, manner in VECTORS], ids=[name for name, _ in VECTORS])
def test_vectors_that_cannot_be_used_are_a_bad_answer(provider: Receiver, make: Make, manner: Manner) -> None:
    provider.manner = manner
    assert one(make("embeddings"), embed("a", "b")).code == "provider_bad_answer"


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "manner", [hanging, dripping(b"x"), dripping(b'data: {"choices": []}\n\n', first=SSE), dripping(b"x-a: b\r\n", first=b"HTTP/1.1 200 OK\r\n")]
)
def test_provider_that_hangs_or_drips_is_given_up_after_the_total_time(provider: Receiver, make: Make, manner: Manner) -> None:
    provider.manner = manner
    started = time.monotonic()
    error = one(make(total_timeout_s=0.4))
    assert (error.code, error.retryable) == ("provider_unavailable", True)
    assert 0.3 < time.monotonic() - started < 2.5  # the read time-out is 3 s


def test_provider_that_is_silent_is_given_up_after_the_read_time(provider: Receiver, make: Make) -> None:
    provider.manner = hanging
    error = one(make(read_timeout_s=0.2))
    assert (error.code, "ReadTimeout" in error.message) == ("provider_unavailable", True)


def test_provider_that_is_not_there_is_unavailable(provider: Receiver, make: Make) -> None:
    backend = make(base_url="http://127.0.0.1:9/v1")
    assert one(backend).code == "provider_unavailable"


def test_bad_ones_never_hurt_their_mates(provider: Receiver, make: Make) -> None:
    bad: dict[str, Manner] = {"slow": hanging, "limited": refusing(429), "garbage": saying(b"{"), "reset": resetting, "down": refusing(500)}
    provider.manner = by_prompt(bad, streaming(piece("fine", "stop")))

    results = make(total_timeout_s=1.5).infer([write(prompt) for prompt in ["a", "slow", "b", "limited", "garbage", "c", "reset", "down", "d"]], run_of(9))

    unavailable, limited, garbage = "provider_unavailable", "provider_rate_limited", "provider_bad_answer"
    assert codes(results) == ["ok", unavailable, "ok", limited, garbage, "ok", unavailable, unavailable, "ok"]


def test_fast_one_is_told_while_a_slow_one_waits(provider: Receiver, make: Make) -> None:
    provider.manner = by_prompt({"slow": hanging}, streaming(piece("fine", "stop")))
    heard = Heard()
    results = make().infer([write("slow"), write("fast")], run_of(2, heard=heard, should_stop=lambda job: job == 0 and 1 in heard.text))
    assert isinstance(results[0], CanceledByUser)
    assert codes(results[1:]) == ["ok"]


def test_canceled_job_hangs_up_and_leaves_its_mate(provider: Receiver, make: Make) -> None:
    open_now = threading.Semaphore(0)

    def manner(connection: Any, _: Any) -> bool:
        connection.recv(1)  # returns when the other side goes
        open_now.release()
        return False

    provider.manner = by_prompt({"slow": manner}, chat())
    started = time.monotonic()
    results = make().infer([write("slow"), write()], run_of(2, should_stop=lambda job: job == 0 and len(provider.got) == 2))
    assert codes(results) == ["canceled_by_user", "ok"]
    assert time.monotonic() - started < 2.5  # the read time-out is 3 s
    assert open_now.acquire(timeout=2)


@pytest.mark.parametrize(
    ("detail", "message"),
    [
        ("no such voice", "no such voice"),
        ({"error": {"message": "bad top_p"}}, "bad top_p"),
        ([{"type": "missing", "loc": ["body", "file"], "msg": "Field required", "input": "what the user wrote"}], "body.file: Field required"),
        (["odd", {"msg": 1}], "odd; a field: 1"),
    ],
)
def test_what_a_server_says_in_a_detail_is_told(provider: Receiver, make: Make, detail: Any, message: str) -> None:
    provider.manner = saying({"detail": detail}, 422)
    assert one(make()).message == f"the provider cannot use this input: {message}"


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_handed_on(provider: Receiver, make: Make, status: int) -> None:
    provider.manner = refusing(status, **{"retry-after": "17"})
    assert one(make()).retry_after_s == 17.0


@pytest.mark.parametrize(
    ("value", "expected"), [(None, None), ("3", 3.0), ("0.5", 0.5), ("-3", 0.0), ("nan", None), ("1e999", None), ("soon", None), ("", None)]
)
def test_retry_after_is_read_as_seconds(value: str | None, expected: float | None) -> None:
    assert retry_after_s(value) == expected


def test_retry_after_is_read_as_a_date() -> None:
    now = datetime.now(UTC)
    assert 25 < (retry_after_s(format_datetime(now + timedelta(seconds=30), usegmt=True)) or 0) <= 30
    assert retry_after_s(format_datetime(now - timedelta(hours=1), usegmt=True)) == 0.0


COUNTED = {"prompt_tokens": 7, "completion_tokens": 2}
SPENT: list[tuple[str, Manner, str]] = [
    ("schema not kept", chat("[]", usage=COUNTED), "invalid_output"),
    ("filtered at its end", streaming(piece("a"), {"choices": [], "usage": COUNTED}, piece(None, "content_filter")), "content_policy"),
    ("tool", chat(None, finish_reason="tool_calls", usage=COUNTED), "provider_bad_answer"),
    ("cut after the counts", streaming(piece("a"), {"choices": [], "usage": COUNTED}, done=False, ended=False), "provider_unavailable"),
]


@pytest.mark.parametrize(("manner", "code"), [case[1:] for case in SPENT], ids=[case[0] for case in SPENT])
def test_tokens_that_were_counted_before_it_failed_are_told(provider: Receiver, make: Make, manner: Manner, code: str) -> None:
    provider.manner = manner
    error = one(make(), write(json_schema={"type": "object"}))
    assert (error.code, error.usage) == (code, Usage(7, 2))


def test_tokens_of_vectors_that_cannot_be_used_are_told(provider: Receiver, make: Make) -> None:
    provider.manner = vectors([1.0])
    assert one(make("embeddings"), embed("a", "b")).usage == Usage(5, 0)


# --- the key --------------------------------------------------------------------------------------------------------------


def test_key_that_the_provider_gives_away_is_not_handed_on(provider: Receiver, make: Make) -> None:
    provider.manner = refusing(400, "x" * 490 + f" got {KEY}")
    error = one(make())
    assert error.code == "unsupported_input"
    assert KEY[:5] not in error.message


def test_model_without_a_key_sends_none(provider: Receiver) -> None:
    backend = OpenaiRemote()
    backend.load({"base_url": f"http://127.0.0.1:{provider.port}", "model": "m", "api": "chat"}, {})
    assert codes([one(backend)]) == ["ok"]
    backend.unload()
    assert "authorization" not in provider.got[0].headers
    assert provider.got[0].line == "POST /chat/completions HTTP/1.1"


def test_key_that_is_not_there_stops_the_load() -> None:
    with pytest.raises(ConfigurationError, match="MILLPOND_PROVIDER_KEYS"):
        OpenaiRemote().load({"base_url": "http://127.0.0.1:9", "model": "m", "api": "chat", "key": "tests"}, {})


@pytest.mark.parametrize("key", ["two\r\nlines", "ключ"])
def test_key_that_cannot_be_sent_is_refused_by_the_settings_unshown(key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"MILLPOND_PROVIDER_KEYS: .*'tests'") as error:
        load_settings({"provider_keys": {"tests": key}})
    assert key not in str(error.value)


def test_key_goes_from_the_worker_to_the_child_and_to_nobody_else(provider: Receiver, tmp_path: Path) -> None:
    document = {
        "pools": {"remote": {}},
        "tasks": {"text.generation": {"contract": "domain.task_types.text_generation", "default_model": "far"}},
        "models": {
            "far": {
                "task": "text.generation",
                "pool": "remote",
                "backend": "workers.backends.openai_remote:OpenaiRemote",
                "version": "1",
                "options": {"base_url": f"http://127.0.0.1:{provider.port}/v1", "model": "m", "api": "chat", "key": "tests"},
            }
        },
    }
    config = replace(worker_config(tmp_path), pool="remote", catalogue=parse_catalogue(document), provider_keys={"tests": KEY})
    config.save()
    Board.create(tmp_path / BOARD_FILE, config.concurrency * PLACES_PER_SLOT)

    backend: Any = Context(tmp_path).backend("far")

    assert codes([one(backend)]) == ["ok"]
    backend.unload()
    assert provider.got[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(config)
    assert [stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir() if file.is_file() and KEY.encode() in file.read_bytes()] == [0o600]


def test_entry_in_contributing_is_one_that_works() -> None:
    text = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    entry = tomllib.loads(text.partition("```toml\n")[2].partition("```")[0])
    task = {"contract": "domain.task_types.text_generation", "default_model": "far-writer"}
    catalogue = parse_catalogue({"pools": {"remote": {}}, "tasks": {"text.generation": task}, **entry})
    options = Options.model_validate(catalogue.models["far-writer"].options)
    assert options.calls >= catalogue.models["far-writer"].max_batch_size
    assert options.total_timeout_s < 120


def test_keys_are_read_from_the_environment_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLPOND_PROVIDER_KEYS", f'{{"tests": "{KEY}"}}')
    settings = load_settings()
    assert settings.provider_keys["tests"].get_secret_value() == KEY
    assert KEY not in repr(settings)
