"""The whole platform, started once for the tests that only use it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.embedded import PROJECT, Up, up


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """What `make run` starts, in an empty folder, with the weights that earlier runs have fetched."""
    models_dir = Path(os.environ.get("MILLPOND_TEST_MODELS_DIR") or PROJECT / ".millpond" / "models")
    models_dir.mkdir(parents=True, exist_ok=True)
    with up(tmp_path_factory.mktemp("platform") / "state", models_dir) as running:
        yield running
