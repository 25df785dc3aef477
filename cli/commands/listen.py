"""`millpond listen`: webhooks for a machine that nobody can reach from outside."""

import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import click
import httpx
import orjson

from cli.client import Busy, Client, Unreachable, options
from domain.signature import BadSecret, decode_secret, signature_headers
from models.sealing import new_secret

PAGE = 100
LOOK_EVERY_S = 0.5
LATEST_RETRY_S = 5.0
ANSWER_TIMEOUT_S = 15.0  # as long as a webhook would wait


@click.command()
@click.option("--forward-to", "target", required=True, metavar="URL", help="Where to send events, for example http://127.0.0.1:3000/hook.")
@click.option("--after", metavar="EVENT", help="Begin after this event; else with what happens from now on.")
@click.option("--secret", envvar="MILLPOND_WEBHOOK_SECRET", help="Signs them; else one is made and printed.")
@options
def command(target: str, after: str | None, secret: str | None, url: str | None, key: str | None) -> None:
    """Send what happens to a URL on your machine, as a webhook would.

    Follows the feed of events and posts each to the URL, signed as webhooks are, in order; one line an event says what came of it. Waits
    while the URL does not answer, and ends on Ctrl-C.
    """
    _check_url(target)
    secret = _checked(secret) if secret else new_secret()
    client = Client(url, key)
    position = after or _now(client)
    click.echo(f"Signing with {secret}\nSending to {target}; Ctrl-C ends it. The last event so far: {position or 'none'}")
    try:
        # No proxy of the environment stands between this machine and itself.
        with httpx.Client(timeout=ANSWER_TIMEOUT_S, trust_env=False, follow_redirects=False) as http:
            for event in _events(client, position):
                began = time.monotonic()
                answer = _post(http, target, event, secret)
                click.echo(_line(event, f"{answer} in {(time.monotonic() - began) * 1000:.0f} ms"))
    except KeyboardInterrupt:
        click.echo("")


def _check_url(text: str) -> None:
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        raise click.BadParameter("must be a URL such as http://127.0.0.1:3000/hook", param_hint="--forward-to")


def _checked(secret: str) -> str:
    try:
        decode_secret(secret)
    except BadSecret as error:
        raise click.BadParameter("must be whsec_ and base64", param_hint="--secret") from error
    return secret


def _now(client: Client) -> str | None:
    """Where the feed ends now; None where nothing has happened yet."""
    position: str | None = client.call("GET", "/v1/events?after=newest")["next_cursor"]
    return position


def _events(client: Client, position: str | None) -> Iterator[Mapping[str, Any]]:
    """Every event after a position, for ever; while the API is away it waits, and says so once."""
    away = False
    while True:
        query = {"limit": PAGE} | ({"after": position} if position else {})
        try:
            page = client.call("GET", f"/v1/events?{urlencode(query)}")
        except (Unreachable, Busy) as error:
            if not away:
                click.echo(f"{error.message}\nAsking again until it does …", err=True)
            away = True
            time.sleep(LOOK_EVERY_S)
            continue
        away = False
        yield from page["data"]
        position = page["next_cursor"]
        if not page["data"]:
            time.sleep(LOOK_EVERY_S)


def _post(http: httpx.Client, target: str, event: Mapping[str, Any], secret: str) -> str:
    """Sends one event until somebody answers.

    Returns:
        The status of the answer, in words for people.
    """
    body = orjson.dumps({name: value for name, value in event.items() if name != "id"})
    wait_s, said = LOOK_EVERY_S, False
    while True:
        signature = signature_headers([secret], message_id=event["id"], timestamp=int(time.time()), body=body)
        try:
            answer = http.post(target, content=body, headers={"Content-Type": "application/json", **signature})
        except httpx.TransportError as error:
            if not said:
                click.echo(_line(event, f"no answer ({error}); trying until there is one …"))
            said = True
            time.sleep(wait_s)
            wait_s = min(LATEST_RETRY_S, wait_s * 2)
        else:
            return f"{answer.status_code} {answer.reason_phrase}".strip()


def _line(event: Mapping[str, Any], what: str) -> str:
    data = event["data"] if isinstance(event["data"], dict) else {}
    return f"{event['type']:<18} {event['id']}  {data.get('id', '–')}  {what}"
