"""One real job per task type, over HTTP, as a table for people."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.client import Client, Refused

_WAIT_S = 60
_ITEMS_SHOWN = 3
_NAME_CHARS = 16
_MOST_CHARS = 200  # a column shows what it has room for


def first_examples(client: Client) -> dict[str, Mapping[str, Any]]:
    """One input of every task type, by its name."""
    return {task["id"]: task["examples"][0]["input"] for task in client.call("GET", "/v1/tasks?limit=200")["data"]}


def run_demo(client: Client, examples: Mapping[str, Mapping[str, Any]], console: Console) -> bool:
    """Submits one job of every task type, one after the other, so that none waits behind another; shows what came of each.

    Returns:
        Whether all succeeded.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), expand=True)
    # Two lines a job, so that 80 columns are enough; what is left of the width goes to input and result.
    table.add_column("task\nmodel", min_width=_NAME_CHARS, no_wrap=True)
    table.add_column("input\nresult", no_wrap=True, ratio=1)
    for column in ("queue\nms", "run\nms", "total\nms"):
        table.add_column(column, justify="right", width=7)
    succeeded = True
    for task, example in examples.items():
        job = _job_of(client, task, example)
        done = job["status"] == "succeeded"
        succeeded = succeeded and done
        timing = job["timing"] or {}
        times = [_milliseconds(timing.get(name)) for name in ("queue_ms", "run_ms", "total_ms")]
        names = Text.assemble(task, "\n", (job["model"] or "–", "dim"))
        what = Text.assemble(_line(brief(example)), "\n", (_line(_result(job)), "green" if done else "red"))
        table.add_row(names, what, *times, end_section=True)
    console.print(table)
    return succeeded


def _job_of(client: Client, task: str, example: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        job: Mapping[str, Any] = client.call("POST", "/v1/jobs", body={"task": task, "input": example}, wait_s=_WAIT_S)
    except Refused as error:
        return {"status": "refused", "model": None, "timing": None, "error": {"message": error.message}}
    return job


def brief(value: object) -> str:
    """A JSON value in few words: what a person looks at to see that it is real."""
    match value:
        case str():
            words = value
        case float():
            words = f"{value:.3g}"
        case Mapping() if len(value) == 1:
            words = brief(next(iter(value.values())))
        case Mapping():
            words = ", ".join(f"{name}: {_part(item)}" for name, item in value.items())
        case Sequence():
            shown = ", ".join(_part(item) for item in value[:_ITEMS_SHOWN])
            words = f"[{shown}, … {len(value)} in all]" if len(value) > _ITEMS_SHOWN else f"[{shown}]"
        case _:
            words = json.dumps(value)
    return words


def _part(value: object) -> str:
    return f"“{value}”" if isinstance(value, str) and " " in value else brief(value)


def _result(job: Mapping[str, Any]) -> str:
    if job["status"] == "succeeded":
        return brief(job["output"])
    error = job["error"] or {}
    return f"{job['status']}: {error.get('message', f'not finished within {_WAIT_S} s')}"


def _line(text: str) -> str:
    return " ".join(text.split())[:_MOST_CHARS]


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1f}" if value < 1_000 else f"{value:,.0f}"
