"""The breakers of models: one row for each model that failed lately, shared by all workers and the API."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.engine import Row

from domain.routing.breaker import Breaker, State

_COLUMNS = [field.name for field in fields(Breaker)]

_ALL = text("SELECT *, now() AS now FROM model_breakers")

# So that the first two that find no row wait for each other too.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('millpond breaker ' || :model, 0))")
_ONE = text("SELECT now.now, b.* FROM (SELECT clock_timestamp() AS now) AS now LEFT JOIN model_breakers b ON b.model = :model")
_SAVE = text(
    f"""
    INSERT INTO model_breakers (model, {", ".join(_COLUMNS)}) VALUES (:model, {", ".join(f":{name}" for name in _COLUMNS)})
    ON CONFLICT (model) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)}
    """  # noqa: S608 - made of constants
)
_FORGET = text("DELETE FROM model_breakers WHERE model = :model")


def all_breakers(connection: Connection) -> tuple[dict[str, Breaker], datetime]:
    """Every breaker there is, and the time by the same clock. Locks nothing; there are no more rows than models that failed lately."""
    rows = connection.execute(_ALL).all()
    now = rows[0].now if rows else connection.execute(text("SELECT now()")).scalar_one()
    return {row.model: _breaker(row) for row in rows}, now


def change_breaker(connection: Connection, *, model: str, change: Callable[[Breaker | None, datetime], Breaker | None]) -> tuple[Breaker | None, datetime]:
    """Takes a model's breaker one step further; call it in a unit of work.

    Whoever else changes the same one waits, so that of two workers that want to probe one does, and no failure is counted over another.

    Args:
        model: whose.
        change: from what is there, None for nothing, and the time by the database's clock, to what shall be; None forgets it.

    Returns:
        What is there now, and that time.
    """
    connection.execute(_LOCK, {"model": model})
    row = connection.execute(_ONE, {"model": model}).one()
    before = None if row.model is None else _breaker(row)
    after = change(before, row.now)
    if after is None and before is not None:
        connection.execute(_FORGET, {"model": model})
    elif after is not None and after != before:
        connection.execute(_SAVE, {"model": model, **_values(after)})
    return after, row.now


def _breaker(row: Row[Any]) -> Breaker:
    values = {name: getattr(row, name) for name in _COLUMNS}
    return Breaker(**{**values, "state": State(values["state"])})


def _values(breaker: Breaker) -> Mapping[str, Any]:
    return {name: getattr(breaker, name) for name in _COLUMNS} | {"state": breaker.state.value}
