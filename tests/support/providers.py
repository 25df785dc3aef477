"""Providers of models that speak OpenAI's protocol on a loopback port, well or badly: manners for ``tests.support.receivers.Receiver``."""

import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.receivers import Manner, Received, answering

USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}


def chat(text: Any = "Hello.", *, finish_reason: str | None = "stop", usage: Any = USAGE, **message: Any) -> Manner:
    """A whole answer of the chat endpoint."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish_reason}
    return saying({"object": "chat.completion", "choices": [choice], "usage": usage})


def saying(value: Any, status: int = 200, **headers: str) -> Manner:
    """Any JSON."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return answering(status, headers={"content-type": "application/json", **headers}, body=body)


def refusing(status: int, message: str = "no", *, code: str | None = None, **headers: str) -> Manner:
    """An error as OpenAI writes it."""
    return saying({"error": {"message": message, "type": "error", "param": None, "code": code}}, status, **headers)


def piece(text: str | None = None, finish_reason: str | None = None) -> dict[str, Any]:
    """One event of a stream of the chat endpoint."""
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish_reason}]}


def streaming(*events: Any, done: bool = True, ended: bool = True, cut: int = 1_000) -> Manner:
    """Server-sent events in HTTP chunks of ``cut`` bytes; without ``ended`` the connection is closed before the last chunk."""
    lines = [b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) for event in [*events, *([b"[DONE]"] if done else [])]]
    body = b"".join(line + b"\r\n\r\n" for line in lines)

    def manner(connection: socket.socket, _: Received) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for at in range(0, len(body), cut):
            part = body[at : at + cut]
            connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        if ended:
            connection.sendall(b"0\r\n\r\n")
        return ended

    return manner


def vectors(*rows: Sequence[Any], order: Sequence[int] | None = None) -> Manner:
    """An answer of the embeddings endpoint."""
    data = [{"object": "embedding", "index": index, "embedding": rows[index]} for index in (order or range(len(rows)))]
    return saying({"object": "list", "data": data, "usage": {"prompt_tokens": 5, "total_tokens": 5}})


def by_prompt(manners: Mapping[str, Manner], otherwise: Manner) -> Manner:
    """Manners by the last message of a conversation."""

    def manner(connection: socket.socket, request: Received) -> bool:
        return manners.get(asked(request)["messages"][-1]["content"], otherwise)(connection, request)

    return manner


def asked(request: Received) -> dict[str, Any]:
    """The body of a request."""
    body: dict[str, Any] = json.loads(request.body)
    return body
