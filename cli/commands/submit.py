"""`millpond submit`: a new job."""

import sys
from pathlib import Path
from typing import Any

import click
import orjson

from cli.client import Client, options
from cli.show import show_json
from domain.errors import InvalidJson
from domain.job import Priority


@click.command()
@click.argument("task")
@click.option("--input", "source", required=True, metavar="JSON|@FILE|-", help="The input: JSON, a file that holds it, or `-` for standard input.")
@click.option("--model", help="A model of the catalogue; else the task's default.")
@click.option("--priority", type=click.Choice([priority.value for priority in Priority]), help="Which queue it waits in.")
@click.option("--timeout-s", type=float, help="Bounds one attempt.")
@click.option("--deadline-s", type=float, help="Bounds the job from submit to end.")
@click.option("--max-attempts", type=int, help="Runs that may fail before the job has failed.")
@click.option("--metadata", "metadata", multiple=True, metavar="KEY=VALUE", help="Stored with the job; may be repeated.")
@click.option("--idempotency-key", help="The same key and input again give the same job, for 24 hours.")
@click.option("--wait", "wait_s", type=click.IntRange(0, 60), help="Wait up to so many seconds for its end.")
@options
def command(task: str, source: str, url: str | None, key: str | None, **fields: Any) -> None:
    """Submit a job and show it as JSON.

    \b
    millpond submit text.sentiment --input '{"text": "What a lovely day"}' --wait 10
    """  # noqa: D301 - the backslash is click's mark for a paragraph that keeps its lines
    pairs, idempotency_key, wait_s = fields.pop("metadata"), fields.pop("idempotency_key"), fields.pop("wait_s")
    body: dict[str, object] = {"task": task, "input": read_input(source), **{name: value for name, value in fields.items() if value is not None}}
    if pairs:
        body["metadata"] = dict(_pair(text) for text in pairs)
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else None
    show_json(Client(url, key).call("POST", "/v1/jobs", wait_s=wait_s, headers=headers, body=body))


def read_input(source: str) -> object:
    """The JSON that ``--input`` names.

    Raises:
        InvalidJson: it is not JSON, or the file cannot be read.
    """
    try:
        if source == "-":
            content = sys.stdin.buffer.read()
        elif source.startswith("@"):
            content = Path(source[1:]).read_bytes()
        else:
            content = source.encode()
    except OSError as error:
        raise InvalidJson(f"--input: {source[1:]} cannot be read: {error.strerror}") from error
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"--input: {error}") from error


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--metadata")
    return name, value
