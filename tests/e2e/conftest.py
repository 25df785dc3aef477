"""The whole platform, started once for the tests that only use it."""

from collections.abc import Iterator

import pytest

from tests.support.embedded import Up, up
from tests.support.weights import FOLDER


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """What `make run` starts, in an empty folder, with the weights that earlier runs have fetched."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with up(tmp_path_factory.mktemp("platform") / "state", FOLDER) as running:
        yield running
