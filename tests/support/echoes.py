"""A catalogue in which several models do one task, so that there is something to choose."""

from collections.abc import Mapping
from typing import Any

from domain.catalogue import Catalogue, parse_catalogue

ECHO = "workers.backends.echo:Echo"


def echoes(models: Mapping[str, Mapping[str, Any]], *, pools: Mapping[str, Mapping[str, Any]] | None = None, **task: Any) -> dict[str, Any]:
    """A catalogue's document: ``debug.echo`` by these models, each in the pool ``debug`` unless it names another. The first is the default."""
    entries = {name: {"task": "debug.echo", "pool": "debug", "backend": ECHO, "version": "1", **fields} for name, fields in models.items()}
    return {
        "pools": {name: dict(fields) for name, fields in (pools or {entry["pool"]: {} for entry in entries.values()}).items()},
        "tasks": {"debug.echo": {"contract": "domain.task_types.debug_echo", "default_model": next(iter(models)), **task}},
        "models": entries,
    }


def echo_catalogue_of(models: Mapping[str, Mapping[str, Any]], **more: Any) -> Catalogue:
    """The same, parsed."""
    return parse_catalogue(echoes(models, **more))
