"""Every model of the catalogue, pulled once and loaded once; a new entry of the catalogue is tested by existing."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.catalogue import Catalogue, parse_catalogue
from tests.conformance.harness import Loaded, load
from tests.support.weights import FOLDER
from weights.pull import pull_models

PROJECT = Path(__file__).resolve().parents[2]
CATALOGUE = parse_catalogue(tomllib.loads((PROJECT / "catalogue.toml").read_text(encoding="utf-8")))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test once for each model: of the task that its module names in ``TASK``, or of all; all tests of a model together."""
    if "model_name" in metafunc.fixturenames:
        task = getattr(metafunc.module, "TASK", None)
        metafunc.parametrize("model_name", list(CATALOGUE.models_of_task(task) if task else CATALOGUE.models), scope="session")


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    """The catalogue as it ships."""
    return CATALOGUE


@pytest.fixture(scope="session")
def store_dir() -> Path:
    """A model store that holds every model; kept between runs."""
    pull_models(CATALOGUE, FOLDER, report=print)
    return FOLDER


@pytest.fixture(scope="session")
def loaded_models(store_dir: Path) -> Iterator[dict[str, Loaded]]:
    """Backends by model, filled as tests ask for them."""
    loaded: dict[str, Loaded] = {}
    yield loaded
    for model in loaded.values():
        model.backend.unload()


@pytest.fixture
def loaded(model_name: str, loaded_models: dict[str, Loaded], store_dir: Path) -> Loaded:
    """The model's backend, loaded as a worker's child does it."""
    if model_name not in loaded_models:
        loaded_models[model_name] = load(CATALOGUE, model_name, store_dir)
    return loaded_models[model_name]
