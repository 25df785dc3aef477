"""`millpond queues`: what waits and what runs."""

from typing import Any

import click

from cli.client import Client, options
from cli.show import show_json, table

_COLUMNS = ("queued", "running", "oldest_queued_s", "arrival_per_s", "finish_per_s", "workers", "concurrency", "desired_workers")


@click.command()
@click.argument("pool", required=False)
@click.option("--json", "as_json", is_flag=True, help="As the API gives it.")
@options
def command(pool: str | None, url: str | None, key: str | None, *, as_json: bool) -> None:
    """Show the queues of all pools, or of one."""
    content = Client(url, key).call("GET", f"/v1/queues/{pool}" if pool else "/v1/queues?limit=200")
    if as_json:
        show_json(content)
    else:
        click.echo(table(["pool", *_COLUMNS], list(_rows(content))))


def _rows(content: dict[str, Any]) -> list[list[object]]:
    rows: list[list[object]] = []
    for entry in content.get("data", [content]):
        rows.append([entry.get("pool"), *(entry.get(column) for column in _COLUMNS)])
        lanes = entry.get("lanes") or {}
        named = lanes.items() if isinstance(lanes, dict) else ((lane.get("priority"), lane) for lane in lanes)
        rows.extend([f"  {name}", *(lane.get(column, "") for column in _COLUMNS)] for name, lane in named)
    return rows
