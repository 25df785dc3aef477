"""One real webhook: a job asks for it, a receiver in this process gets it and checks its signature."""

import hmac
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from cli.client import Client, Refused
from domain.signature import sign

_WAIT_S = 30.0
_TOLERANCE_S = 300  # Standard Webhooks: what is older may be a replay


class Received(NamedTuple):
    """A request as it came."""

    at: datetime
    headers: Mapping[str, str]
    body: bytes


def run_webhook_demo(client: Client, secret: str, renew: Callable[[], str], example: tuple[str, Mapping[str, Any]], console: Console) -> bool:
    """Submits a job with a webhook to a receiver in this process, and shows what arrives there.

    Args:
        client: of the API.
        secret: what is known as the tenant's default secret.
        renew: makes another one; called if that one did not sign.
        example: a task and an input of it.
        console: where to show it.

    Returns:
        Whether it came, signed as it must be.
    """
    try:
        received = _ask_for_one(client, example)
        if not is_signed(received, secret, now_s=time.time()):
            secret = renew()
            received = _ask_for_one(client, example)
    except Refused as error:
        console.print(f"No webhook could be shown: {error.message}")
        return False
    except Empty:
        console.print(f"No webhook came within {_WAIT_S:g} s; the logs of webhooks and of maintenance in the state folder may say why")
        return False
    verified = is_signed(received, secret, now_s=time.time())
    event = orjson.loads(received.body)
    waited_ms = (received.at - datetime.fromisoformat(event["timestamp"])).total_seconds() * 1_000
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), expand=True)
    table.add_column("webhook", no_wrap=True, ratio=1)
    table.add_column("webhook-id", no_wrap=True)
    table.add_column("signature", no_wrap=True)
    table.add_column("after the\njob's end, ms", justify="right")
    table.add_row(event["type"], received.headers["webhook-id"], "[green]verified[/]" if verified else "[red]wrong[/]", f"{waited_ms:.1f}")
    console.print(table)
    return verified


def is_signed(received: Received, secret: str, *, now_s: float) -> bool:
    """Whether one of a request's signatures is by this secret, and not from long ago.

    Args:
        received: the request.
        secret: ``whsec_…``.
        now_s: unix time.
    """
    timestamp = received.headers.get("webhook-timestamp", "")
    if not timestamp.isdigit() or abs(now_s - int(timestamp)) > _TOLERANCE_S:
        return False
    wanted = sign(secret, message_id=received.headers.get("webhook-id", ""), timestamp=int(timestamp), body=received.body)
    return any(hmac.compare_digest(wanted, given) for given in received.headers.get("webhook-signature", "").split())


def _ask_for_one(client: Client, example: tuple[str, Mapping[str, Any]]) -> Received:
    task, job_input = example
    with _receiver() as (url, came):
        client.call("POST", "/v1/jobs", body={"task": task, "input": job_input, "webhook": {"url": url}})
        return came.get(timeout=_WAIT_S)


@contextmanager
def _receiver() -> Iterator[tuple[str, "SimpleQueue[Received]"]]:
    """A server on a free port of this machine; its URL, and what comes."""
    came: SimpleQueue[Received] = SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            came.put(Received(datetime.now(UTC), {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server calls it so
            """Says nothing: the table does."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", came
        finally:
            server.shutdown()
            thread.join()
