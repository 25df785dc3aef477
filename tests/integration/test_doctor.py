import re
from pathlib import Path

import pytest

from broker.sender import Sender
from cli.doctor import Finding, Level, examine
from domain.catalogue import QueueName
from domain.job import Priority
from models.migrate import downgrade
from settings import load_catalogue, load_settings


def findings(tmp_path: Path, **overrides: str) -> dict[str, Finding]:
    settings = load_settings({"state_dir": tmp_path, "port": 1, **overrides})
    return {finding.what: finding for finding in examine(settings, load_catalogue(settings))}


def test_doctor_servers_in_order_are_ok(database_url: str, broker_url: str, redis_url: str, tmp_path: Path) -> None:
    found = findings(tmp_path, database_url=database_url, broker_url=broker_url, redis_url=redis_url)
    for what in ("settings", "catalogue", "database", "database schema", "broker", "broker queues", "redis", "files"):
        assert found[what].level is Level.OK, found[what]
    assert found["workers of text"].level is Level.WARN


def test_doctor_store_of_files_that_does_not_store_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    found = findings(tmp_path, files_url=(tmp_path / "file" / "below").as_uri())["files"]
    assert (found.level, "MILLPOND_FILES_URL" in found.do) == (Level.FAIL, True)


def test_doctor_schema_behind_fails(database_url: str, tmp_path: Path) -> None:
    downgrade(database_url, "0002")
    found = findings(tmp_path, database_url=database_url)["database schema"]
    assert (found.level, found.do) == (Level.FAIL, "run `millpond migrate`")
    assert "0003, 0004" in found.says


@pytest.mark.servers
def test_doctor_queue_of_the_other_type_fails_and_says_what_to_set(broker_url: str, tmp_path: Path) -> None:
    with Sender(broker_url, queue_type="quorum") as sender:
        sender.ready_messages(QueueName("text", Priority.INTERACTIVE))
    found = findings(tmp_path, broker_url=broker_url)["broker queues"]
    assert found.level is Level.FAIL
    assert "MILLPOND_QUEUE_TYPE=quorum" in found.do


@pytest.mark.servers
def test_doctor_consumer_timeout_of_the_broker_is_compared(broker_url: str, tmp_path: Path) -> None:
    found = findings(tmp_path, broker_url=broker_url)["broker consumer_timeout"]
    assert re.search(r"is \d+ s; |^\d+ s; |was not asked|none for these queues", found.says)  # by how it is set here, and whether it may be asked


def test_doctor_visibility_timeout_too_short_is_said(redis_url: str, tmp_path: Path) -> None:
    found = findings(tmp_path, broker_url=redis_url, visibility_timeout_s="60")["broker visibility"]
    assert (found.level, "MILLPOND_VISIBILITY_TIMEOUT_S" in found.do) == (Level.WARN, True)
