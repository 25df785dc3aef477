"""What CONTRIBUTING.md promises: a new thing is one new file and one entry. Each is added to a copy of the project, which is then run."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.platform import PROJECT, Api, Platform
from tests.support.rigs import Rig, rig_of

PACKAGES = [folder.parent.name for folder in PROJECT.glob("*/__init__.py") if folder.parent.name not in {"benchmarks", "docs", "tests"}]

TASK_TYPE = '''"""Says it louder."""

from domain.contracts import Contract, Example, Text


class Input(Contract):
    """One text."""

    text: Text


class Output(Contract):
    """The same, louder."""

    text: str


EXAMPLES = (Example("Quiet", {"text": "mill"}),)
'''

BACKEND = '''"""Upper case, and as many exclamation marks as the catalogue says."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from domain.task_types.text_louder import Output
from workers.backends.base import Inference, Run


class Upper:
    """Shouts."""

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        self._marks = "!" * options["marks"]

    def infer(self, inputs: Sequence[Any], run: Run) -> Sequence[Inference]:
        return [Inference(Output(text=value.text.upper() + self._marks)) for value in inputs]

    def unload(self) -> None:
        """Holds nothing."""
'''

POLICY = '''"""The model with the longest name."""

from collections.abc import Sequence

from domain.routing.policy import Candidate, Score


def scores(candidates: Sequence[Candidate]) -> list[Score]:
    """Characters, the other way round."""
    return [Score(-len(candidate.model), f"{len(candidate.model)} characters") for candidate in candidates]
'''

ENTRIES = """
[policies]
wordy = "domain.routing.policies.wordy"
[pools.debug]
concurrency = 1
[tasks."text.louder"]
contract = "domain.task_types.text_louder"
default_model = "loud"
[models.loud]
task = "text.louder"
pool = "debug"
backend = "workers.backends.upper:Upper"
version = "1"
max_batch_size = 8
options = { marks = 1 }
[models.very-loud-indeed]
task = "text.louder"
pool = "debug"
backend = "workers.backends.upper:Upper"
version = "1"
max_batch_size = 8
options = { marks = 3 }
"""


@pytest.fixture(scope="module")
def api(request: pytest.FixtureRequest, rigs: Callable[[str], Rig], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A copy of the project with one new file each for a task type, a backend and a policy, and an entry for each and for two models."""
    tree = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(PROJECT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in (("domain/task_types/text_louder", TASK_TYPE), ("workers/backends/upper", BACKEND), ("domain/routing/policies/wordy", POLICY)):
        Path(tree / f"{name}.py").write_text(text, encoding="utf-8")
    rig = rigs(rig_of(request.node))
    with (
        rig.database() as database_url,
        rig.broker() as broker_url,
        Platform(tmp_path_factory.mktemp("platform"), database_url, broker_url, tree=tree) as platform,
    ):
        platform.catalogue = platform.write_catalogue(ENTRIES)
        with platform.worker(concurrency=1), platform.api() as api:
            yield api


@pytest.mark.parametrize(
    ("choice", "model", "text"),
    [
        ({}, "loud", "MILL!"),  # the task type, the backend, the default model
        ({"model": "very-loud-indeed"}, "very-loud-indeed", "MILL!!!"),  # a model is an entry alone
        ({"route": {"policy": "wordy"}}, "very-loud-indeed", "MILL!!!"),
    ],
)
def test_what_was_added_runs(api: Api, choice: dict[str, object], model: str, text: str) -> None:
    answer = api.client.post("/v1/jobs", json={"task": "text.louder", "input": {"text": "mill"}, **choice}, headers={"Prefer": "wait=14"})

    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert (job["model"], job["output"]) == (model, {"text": text})


def test_what_was_added_is_in_the_catalogue_and_its_contract_is_kept(api: Api) -> None:
    task = api.client.get("/v1/tasks/text.louder").json()
    assert (task["summary"], task["models"]) == ("Says it louder.", ["loud", "very-loud-indeed"])
    wrong = api.client.post("/v1/jobs", json={"task": "text.louder", "input": {"text": 1}})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/input/text")
