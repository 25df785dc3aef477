"""Plans that a connection keeps, made before the server knows how much there will be: none may compare each job of a batch with each other."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models.prepared import Prepared
from models.queries.claim import _CLAIM
from models.queries.finish import _FINISH, _FINISH_CHILDREN, _MOVE, _RETURN
from models.queries.relay import _MARK
from models.transactions import statement

BY_BATCH = {"claim": _CLAIM, "finish": _FINISH, "finish children": _FINISH_CHILDREN, "return": _RETURN, "move": _MOVE, "mark": _MARK}


def _kept_plan(engine: Engine, prepared: Prepared, *, nested_loops: bool = True) -> list[dict[str, Any]]:
    """Every node of the plan that is kept, as PostgreSQL describes it; without nested loops where there is another way."""
    parameters = prepared._execute.count("%(")
    with statement(engine) as connection:
        connection.execute(text("SET plan_cache_mode = force_generic_plan"))
        connection.execute(text(f"SET enable_nestloop = {nested_loops}"))
        connection.exec_driver_sql(prepared._prepare.replace(f"PREPARE {prepared.name} ", "PREPARE shown ", 1).replace("%", "%%"))
        rows = connection.execute(text(f"EXPLAIN (FORMAT JSON) EXECUTE shown ({', '.join(['NULL'] * parameters)})")).scalar_one()
        connection.execute(text("DEALLOCATE shown"))
        connection.execute(text("RESET plan_cache_mode"))
        connection.execute(text("RESET enable_nestloop"))
    return list(_nodes((rows if isinstance(rows, list) else json.loads(rows))[0]["Plan"]))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _looked_up_by(scan: dict[str, Any]) -> str:
    """The condition by which a table's rows are found in an index, with a bitmap or without; empty where the table is read whole."""
    return next((node["Index Cond"] for node in _nodes(scan) if "Index Cond" in node), "")


@pytest.mark.parametrize("name", BY_BATCH)
def test_kept_plan_of_a_batch_updates_from_one_list(engine: Engine, name: str) -> None:
    """Two lists that are joined there were compared row by row beside a table of a million jobs, where the planner took both to be short."""
    updates = [node for node in _kept_plan(engine, BY_BATCH[name]) if node["Node Type"] == "ModifyTable" and node["Operation"] == "Update"]
    assert updates
    for update in updates:
        lists = [node["CTE Name"] for child in update["Plans"] if not child.get("Subplan Name") for node in _nodes(child) if "CTE Name" in node]
        assert len(lists) == 1, lists


@pytest.mark.parametrize("name", ["claim", "finish", "finish children"])
def test_kept_plan_finds_webhooks_by_their_index_even_if_there_were_none(engine: Engine, name: str) -> None:
    with statement(engine) as connection:
        connection.execute(text("VACUUM (ANALYZE) webhook_endpoints, job_webhooks"))
    scans = [node for node in _kept_plan(engine, BY_BATCH[name]) if node.get("Relation Name") in {"webhook_endpoints", "job_webhooks"}]
    read = [node for node in scans if node["Node Type"] != "ModifyTable"]
    assert {node["Relation Name"] for node in read} == {"webhook_endpoints", "job_webhooks"}
    assert all(_looked_up_by(node) for node in read), read


def test_kept_plan_of_a_note_looks_each_job_up_even_where_another_way_seems_cheaper(engine: Engine) -> None:
    """A table that is young and has no statistics was read whole, and each job compared with each note."""
    plan = _kept_plan(engine, _MARK, nested_loops=False)
    (locked,) = [node for lock in plan if lock["Node Type"] == "LockRows" for node in _nodes(lock) if node.get("Relation Name") == "jobs"]
    assert "id" in _looked_up_by(locked), locked
