"""The import contracts hold, and each one fails when it is broken."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import AROUND, ROOT

_SECTION = "importlinter:contract:"

# Per contract: the file that the breach is written to, and the breach. A file that does not exist yet is made.
BREACHES = [
    ("layers", "models/breach.py", "import broker"),
    ("layers", "api/breach.py", "import workers"),
    ("layers", "workers/breach.py", "import api"),
    ("layers", "telemetry/breach.py", "import models"),
    ("layers", "weights/breach.py", "import models"),
    ("layers", "storage/breach.py", "import models"),
    ("layers", "domain/breach.py", "import telemetry"),
    ("layers", "broker/breach.py", "import migrations"),
    ("settings", "workers/breach.py", "from settings import load_settings"),
    ("settings", "models/breach.py", "import settings.load"),
    ("domain", "domain/breach.py", "import sqlalchemy"),
    ("domain", "domain/breach.py", "from pydantic_settings import BaseSettings"),
    ("migrations", "migrations/breach.py", "import models"),
    ("runtimes", "api/breach.py", "import onnxruntime"),
    ("runtimes", "cli/breach.py", "import workers.backends.breach"),  # by a detour
    ("http", "workers/breach.py", "import flask"),
    ("amqp", "api/breach.py", "from celery import Celery"),
    ("amqp", "models/breach.py", "import kombu"),
    ("backends", "workers/breach.py", "import workers.backends.breach"),
    ("backend-siblings", "workers/backends/sibling.py", "import workers.backends.breach"),
    ("task-types", "api/breach.py", "from domain.task_types import text_embedding"),
    ("task-type-siblings", "domain/task_types/breach.py", "from domain.task_types import text_embedding"),
    ("policies", "domain/routing/breach.py", "from domain.routing.policies import cheapest"),
    ("policy-siblings", "domain/routing/policies/breach.py", "from domain.routing.policies import cheapest"),
    ("route-siblings", "api/routes/sibling.py", "from api.routes import breach"),
    ("stores", "models/breach.py", "import fsspec"),
    ("duty-siblings", "workers/maintenance/sibling.py", "from workers.maintenance import breach"),
]
_BYSTANDERS = {"workers/backends/breach.py": "import numpy", "api/routes/breach.py": "", "workers/maintenance/breach.py": ""}


def _config() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter", encoding="utf-8")
    return config


def _packages() -> list[str]:
    return _config()["importlinter"]["root_packages"].split()


def _contracts() -> list[str]:
    return [section.removeprefix(_SECTION) for section in _config().sections() if section.startswith(_SECTION)]


def _lint(folder: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-logo", "--no-cache"]
    command += [word for contract in contracts for word in ("--contract", contract)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in [*_packages(), "tests/architecture"]:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    for name, text in _BYSTANDERS.items():
        (tmp_path / name).write_text(f"{text}\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(("contract", "file", "breach"), BREACHES, ids=[f"{contract}: {file}: {breach}" for contract, file, breach in BREACHES])
def test_contract_broken_on_purpose_fails(copy: Path, contract: str, file: str, breach: str) -> None:
    (copy / file).write_text(f"{breach}\n", encoding="utf-8")

    result = _lint(copy, contract)

    assert result.returncode == 1, result.stdout + result.stderr
    assert re.search(r"Contracts: 0 kept, 1 broken\.", result.stdout), result.stdout + result.stderr
    assert file.removesuffix(".py").replace("/", ".") in result.stdout


def test_contracts_unbroken_hold() -> None:
    result = _lint(ROOT, *_contracts())

    assert result.returncode == 0, result.stdout + result.stderr


def test_every_contract_has_a_breach() -> None:
    assert set(_contracts()) == {contract for contract, _, _ in BREACHES}


def test_every_package_of_the_project_is_in_a_layer() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - set(AROUND)
    layers = set(re.findall(r"\w+", _config()[f"{_SECTION}layers"]["layers"]))

    assert packages == set(_packages()) == layers
