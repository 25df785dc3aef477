"""The locks, the Makefile and the CI entry keep their promises."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.sources import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LIGHT = ("text", "generation")
ALL = tuple(re.fullmatch(r"millpond\[([\w,-]+)\]", PROJECT["project"]["optional-dependencies"]["all"][0])[1].split(","))  # type: ignore[index]
LOCKS = {"requirements.lock": (LIGHT, ["build"]), "requirements-all.lock": (ALL, ["build"]), "requirements-dev.lock": (ALL, ["build", "dev"])}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def _pins(lock: str) -> dict[str, set[str]]:
    """The locked versions by name; several where they depend on the platform."""
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE):
        pins.setdefault(canonicalize_name(name), set()).add(version)
    return pins


def _wanted(lock: str) -> list[Requirement]:
    project, (extras, groups) = PROJECT["project"], LOCKS[lock]
    optional = (line for extra in extras for line in project["optional-dependencies"][extra])
    return [Requirement(line) for line in [*project["dependencies"], *optional, *(line for group in groups for line in PROJECT["dependency-groups"][group])]]


@pytest.mark.parametrize(("lock", "least"), [*((lock, 50) for lock in LOCKS), ("requirements-uv.lock", 1)])
def test_lock_names_no_host_and_hashes_everything(lock: str, least: int) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    entries = re.findall(r"^[\w.-]+==.*(?:\n    .*)*", text, re.MULTILINE)

    assert "://" not in text
    assert "--index-url" not in text
    assert len(entries) >= least
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_holds_what_the_project_asks_for(lock: str) -> None:
    pins = _pins(lock)

    for wanted in _wanted(lock):
        versions = pins.get(canonicalize_name(wanted.name))
        assert versions, f"{wanted.name} is not in {lock}; run `make lock`"
        assert any(wanted.specifier.contains(version) for version in versions), f"{lock} has {versions} of {wanted}; run `make lock`"


def test_locks_agree() -> None:
    run, everything, dev = (_pins(lock) for lock in LOCKS)

    assert {name: everything.get(name) for name in run} == run
    assert {name: dev.get(name) for name in everything} == everything


def _make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS")) and name not in {"ARGS", "BESIDE", "ON", "POOLS"}
    }  # as if no make ran these tests
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_make_without_target_prints_every_target() -> None:
    targets = set(re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[0].split())

    result = _make()

    assert set(re.findall(r"^  make ([\w-]+)", result.stdout, re.MULTILINE)) == targets


def test_make_with_an_old_python_says_what_is_needed(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for file in ("requirements.lock", "pyproject.toml"):
        (tmp_path / file).touch()
    old = tmp_path / "python3.8"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)

    result = _make("run", f"PYTHON={old}", folder=tmp_path)

    assert result.returncode != 0
    assert "needs Python 3.11 or newer" in result.stderr
    assert "make run PYTHON=/path/to/python3" in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_make_with_everything_installed_installs_nothing(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for file in ("requirements.lock", "pyproject.toml", ".venv/bin/python", ".venv/installed-run"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()

    result = _make("-n", "run", folder=tmp_path)

    assert [line.strip() for line in result.stdout.splitlines()] == [".venv/bin/python -m cli.main up"]


def test_ci_and_hooks_call_make() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]

    assert "exec make check" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    for hook in hooks:
        target = re.fullmatch(r"make ([\w-]+)", hook["entry"])
        assert target, hook["entry"]
        assert re.search(rf"^{target[1]}:", MAKEFILE, re.MULTILINE)
