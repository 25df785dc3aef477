"""Which servers a test runs on, and fixtures that give it a part of them that is its own.

Most tests run on the embedded servers. A test marked ``servers`` needs the real ones (PostgreSQL 15, RabbitMQ, Redis), and with
``--on=real`` every test that asks for a server gets a real one, with ``--on=mixed`` the fault core, if they answer. Where they do not, such
tests are left out, with one line that says so; with ``CI=true`` that is a failure. So are those marked ``curl`` where there is no curl.
"""

import os
import shutil
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.support.rigs import EmbeddedRig, RealRig, Rig, rig_of

_SERVER_FIXTURES = {"rig", "rigs", "database_url", "empty_database_url", "broker_url", "redis_url"}
_left_out = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    said = "the servers that tests get, unless marked `servers`; mixed: real ones for those marked `chaos`, if they answer"
    parser.addoption("--on", choices=("embedded", "real", "mixed"), default="embedded", help=said)


def pytest_configure(config: pytest.Config) -> None:
    """The settings of whoever runs the tests are not the tests' settings."""
    for name in [name for name in os.environ if name.startswith("MILLPOND_") and not name.startswith("MILLPOND_TEST_")]:
        del os.environ[name]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts what runs in the background so, and processes of tests would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput") and os.environ.get("CI") == "true":
        missing = [*RealRig().missing, *_missing_programs()]
        if missing:  # in one of several processes it would say it for itself
            pytest.exit(f"tests need what does not answer or is not here: {'; '.join(missing)}", returncode=1)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a process of several has left out, said by the first."""
    if said := getattr(node, "workeroutput", {}).get("left_out"):
        node.config.stash[_left_out] = said


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    on_real = [
        item for item in items if rig_of(item) == "real" and (item.get_closest_marker("servers") or _SERVER_FIXTURES & set(getattr(item, "fixturenames", ())))
    ]
    by_curl = [item for item in items if item.get_closest_marker("curl")]
    if config.option.collectonly:
        return
    if on_real and (missing := RealRig().missing):
        _leave_out(config, items, on_real, f"{len(on_real)} tests need servers that do not answer: {'; '.join(missing)}")
    if by_curl and (missing := _missing_programs()):
        _leave_out(config, items, by_curl, f"{len(by_curl)} tests run examples as they are printed: {'; '.join(missing)}")


def _missing_programs() -> tuple[str, ...]:
    return () if shutil.which("curl") else ("curl is not on the PATH",)


def _leave_out(config: pytest.Config, items: list[pytest.Item], those: Collection[pytest.Item], said: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.exit(said, returncode=1)
    config.stash[_left_out] = [*config.stash.get(_left_out, []), said]
    items[:] = [item for item in items if item not in set(those)]
    config.hook.pytest_deselected(items=those)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for said in config.stash.get(_left_out, []):
        terminalreporter.write_line(f"Left out: {said}", yellow=True)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    said = session.config.stash.get(_left_out, [])
    if said and hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = said
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and said:
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture(scope="session")
def rigs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Rig]]:
    """Both sets of servers by name, for fixtures that outlive a test; each is started when it is first asked for."""
    running: dict[str, tuple[Rig, AbstractContextManager[Rig]]] = {}

    def rig(name: str) -> Rig:
        if name not in running:
            context: AbstractContextManager[Rig] = RealRig().running() if name == "real" else EmbeddedRig(tmp_path_factory.mktemp("servers")).running()
            running[name] = (context.__enter__(), context)
        return running[name][0]

    yield rig
    for _, context in running.values():
        context.__exit__(None, None, None)


@pytest.fixture
def rig(request: pytest.FixtureRequest, rigs: Callable[[str], Rig]) -> Rig:
    """The set of servers that this test runs on."""
    return rigs(rig_of(request.node))


@pytest.fixture
def database_url(rig: Rig) -> Iterator[str]:
    """A fresh database with the newest schema."""
    with rig.database() as url:
        yield url


@pytest.fixture
def empty_database_url(rig: Rig) -> Iterator[str]:
    """A fresh database with nothing in it."""
    with rig.database(migrated=False) as url:
        yield url


@pytest.fixture
def broker_url(rig: Rig) -> Iterator[str]:
    """An empty broker: a virtual host on RabbitMQ, or a numbered database on Valkey."""
    with rig.broker() as url:
        yield url


@pytest.fixture
def redis_url(rig: Rig) -> Iterator[str]:
    """An empty Redis or Valkey."""
    with rig.redis() as url:
        yield url
