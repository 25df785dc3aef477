"""Writes the part of the documentation that the code knows best: ``python -m docs.generate``, or with ``--check`` only compares.

Each document is a function that returns its text; ``DOCUMENTS`` says where it goes. None asks a server for anything.
"""

import argparse
import difflib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args, get_origin

from flask import Flask
from pydantic.fields import FieldInfo

from api.errors import STATUS
from api.openapi import openapi_document
from api.routes import BLUEPRINTS
from api.validation import FIELD_CODES
from domain.errors import MillpondError
from domain.failures import InferenceError
from domain.job import FINAL, TRANSITIONS, Status
from settings import Settings, load_catalogue, load_settings

ROOT = Path(__file__).resolve().parent.parent
_MADE = "<!-- Made by `make docs` from {source}; edit that, not this. -->"
_EVENT_NOTE = re.compile(r"^    ([A-Z]+) = \"(\w+)\"  # (.+)$", re.MULTILINE)


def errors() -> str:
    """Every public code: its status, whether trying again can help, and what it means."""
    requests, failures = [], []
    for code, cls in sorted(_by_code(MillpondError).items()):
        meaning = " ".join((cls.__doc__ or "").split()).replace("|", "\\|")
        again = "yes" if cls.retryable else "no"
        if issubclass(cls, InferenceError):
            failures.append(f"| `{code}` | {again} | {meaning} |")
        elif (status := _status(cls)) is not None:
            requests.append(f"| `{code}` | {status} | {again} | {meaning} |")
    return "\n".join(
        [
            _MADE.format(source="domain/errors.py, domain/failures.py, api/errors.py and api/validation.py"),
            "",
            "# Errors",
            "",
            "The closed list. *Again*: whether the same request, or the same job, may succeed when it is tried again.",
            "",
            "## A request that was not taken",
            "",
            "`application/problem+json` with `code`, `retryable`, `request_id`, and `errors` by field where fields are wrong.",
            "",
            "| code | status | again | meaning |",
            "|---|---|---|---|",
            *requests,
            "",
            "## A field that is wrong",
            "",
            "The `code` of each entry of `errors`. Where a body has one wrong field alone, it is the problem's own `code` too; the status is 422.",
            "",
            "| code | meaning |",
            "|---|---|",
            *(f"| `{code}` | {meaning} |" for code, meaning in sorted(FIELD_CODES.items())),
            "",
            "## A job that failed",
            "",
            "The `error` of a job or of an attempt. Failures that may pass are tried again up to the job's `max_attempts`.",
            "",
            "| code | again | meaning |",
            "|---|---|---|",
            *failures,
            "",
        ]
    )


def _by_code(root: type[MillpondError]) -> dict[str, type[MillpondError]]:
    """The most special class of each code: a base shares its code with the case that it stands for.

    Only ``domain/errors.py`` and ``domain/failures.py`` count: what a module defines for itself ends a process, and no client sees it.
    """
    found = {root.code: root}
    for cls in root.__subclasses__():
        if cls.__module__ in {"domain.errors", "domain.failures"}:
            found.update(_by_code(cls))
    return found


def _status(cls: type[MillpondError]) -> int | None:
    return next((STATUS[base] for base in cls.__mro__ if base in STATUS), None)


def settings() -> str:
    """Every setting: its variable, what it takes, its default, what it is for."""
    rows = [
        f"| `{Settings.model_config.get('env_prefix', '')}{name.upper()}` | {_takes(field)} | {_default(field)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(
        [
            _MADE.format(source="settings/schema.py"),
            "",
            "# Settings",
            "",
            "Environment variables, read once when a process starts. A value that does not fit ends the process with a message that names the",
            "variable; an empty one counts as not set.",
            "",
            "| variable | takes | default | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _takes(field: FieldInfo) -> str:
    kind: Any = field.annotation
    kinds = [each for each in get_args(kind) or (kind,) if each is not type(None)]
    kind = kinds[0]
    bounds = {name: getattr(each, name) for each in field.metadata for name in ("gt", "ge", "lt", "le") if getattr(each, name, None) is not None}
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return ", ".join(f"`{member}`" for member in kind)
    words = {"int": "whole number", "float": "number", "bool": "`true` or `false`", "str": "text", "Path": "path", "SecretStr": "text, kept out of logs"}
    if get_origin(field.annotation) is dict:
        return f"JSON object of {words[kinds[-1].__name__]}"
    word = words.get(kind.__name__, kind.__name__)
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    return ", ".join([word, *(f"{signs[name]} {value:,}" for name, value in bounds.items())])


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value in (None, "", {}):
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def job_states() -> str:
    """The state machine, as a picture and as a table."""
    notes = {value: note for _, value, note in _EVENT_NOTE.findall((ROOT / "domain/job.py").read_text(encoding="utf-8"))}
    arrows = [f"    {source} --> {target} : {event}" for (source, event), target in TRANSITIONS.items()]
    rows = [f"| {source} | {event} | {target} | {notes.get(event, '')} |" for (source, event), target in TRANSITIONS.items()]
    return "\n".join(
        [
            _MADE.format(source="domain/job.py"),
            "",
            "# The states of a job",
            "",
            "```mermaid",
            "stateDiagram-v2",
            f"    [*] --> {Status.QUEUED} : submit",
            *arrows,
            *(f"    {status} --> [*]" for status in Status if status in FINAL),
            "```",
            "",
            "What is not in this table does not happen: the statements that move a job ask for the state on the left, and constraints in the",
            "database repeat it. Final states never change.",
            "",
            "| from | event | to | |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def openapi() -> str:
    """The HTTP contract as ``/openapi.json`` serves it in production."""
    app = Flask("api", static_folder=None)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return json.dumps(openapi_document(app, load_catalogue(load_settings({"environment": "production"}))), indent=1, ensure_ascii=False) + "\n"


def decisions() -> str:
    """The list of decision records, by number."""
    return "\n".join(
        [
            _MADE.format(source="the records beside this file"),
            "",
            "# Decisions",
            "",
            "What was decided, why, what was measured, and what holds it in place. A new one starts from [0000-template.md](0000-template.md).",
            "",
            "| | decision | status |",
            "|---|---|---|",
            *_records(),
            "",
        ]
    )


def _records() -> Iterator[str]:
    for path in sorted((ROOT / "docs/decisions").glob("[0-9]*.md")):
        if path.name.startswith("0000"):
            continue
        text = path.read_text(encoding="utf-8")
        title = re.search(r"^# \d{4}: (.+)$", text, re.MULTILINE)
        status = re.search(r"^Status: (.+)$", text, re.MULTILINE)
        if title is None or status is None:
            raise SystemExit(f"{path.relative_to(ROOT)}: begins with '# NNNN: Title' and has a line 'Status: …'")
        yield f"| [{path.name[:4]}]({path.name}) | {title[1]} | {status[1]} |"


DOCUMENTS: Mapping[str, Callable[[], str]] = {
    "docs/generated/errors.md": errors,
    "docs/generated/settings.md": settings,
    "docs/generated/job-states.md": job_states,
    "docs/generated/openapi.json": openapi,
    "docs/decisions/README.md": decisions,
}


def main(arguments: list[str] | None = None) -> int:
    """Writes what differs, or with ``--check`` says so and returns 1."""
    parser = argparse.ArgumentParser(prog="docs.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a document is not what the code says")
    parser.add_argument("--into", type=Path, default=ROOT, help="the root under which to write or compare")
    options = parser.parse_args(arguments)
    stale = []
    for name, document in DOCUMENTS.items():
        path = options.into / name
        there = path.read_text(encoding="utf-8") if path.exists() else ""
        text = document()
        if there == text:
            continue
        stale.append(name)
        if options.check:
            difference = difflib.unified_diff(there.splitlines(), text.splitlines(), f"{name} as it is", f"{name} as the code says", lineterm="", n=1)
            sys.stdout.writelines(f"{line}\n" for line in list(difference)[:40])
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {name}\n")
    if options.check and stale:
        sys.stderr.write(f"not what the code says: {', '.join(stale)}; run `make docs` and commit\n")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
