"""A platform for fault tests: a database and a broker of its own, with maintenance running, shared by the tests of a file."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.platform import Platform, Running
from tests.support.rigs import Rig, rig_of


@pytest.fixture(scope="module")
def mill(request: pytest.FixtureRequest, rigs: Callable[[str], Rig], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with maintenance and nothing else."""
    rig = rigs(rig_of(request.node))
    with (
        rig.database() as database_url,
        rig.broker() as broker_url,
        Platform(tmp_path_factory.mktemp("mill"), database_url, broker_url) as platform,
        platform.maintenance(),
    ):
        yield platform


@pytest.fixture(scope="module")
def worker(mill: Platform) -> Iterator[Running]:
    """A worker with two children for tests that leave it alive."""
    with mill.worker("shared") as worker:
        yield worker


@pytest.fixture
def bare(rig: Rig, tmp_path: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform of a test's own where nothing runs yet."""
    with rig.database() as database_url, rig.broker() as broker_url, Platform(tmp_path_factory.mktemp("bare"), database_url, broker_url) as platform:
        yield platform
