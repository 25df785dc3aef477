import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cli.embedded.processes import Process
from cli.embedded.state import StateFolder
from domain.errors import ConfigurationError


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "a folder" / "state")
    folder.create()
    return folder


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_create_new_folder_is_private_and_hidden_from_git(state: StateFolder) -> None:
    assert _mode(state.root) == 0o700
    assert (state.root / ".gitignore").read_text() == "*\n"


def test_create_after_a_pull_of_models_hides_the_folder_too(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()

    StateFolder(tmp_path).create()

    assert (tmp_path / ".gitignore").read_text() == "*\n"


def test_create_folder_with_files_of_others_leaves_them_visible(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()

    StateFolder(tmp_path).create()

    assert not (tmp_path / ".gitignore").exists()


def test_create_where_a_file_stands_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="MILLPOND_STATE_DIR"):
        StateFolder(tmp_path / "file").create()


def test_secret_is_made_once_and_private(state: StateFolder) -> None:
    first = state.secret("word")

    assert state.secret("word") == first
    assert len(first) >= 32
    assert _mode(state.root / "word") == 0o600


def test_keep_replaces_the_secret(state: StateFolder) -> None:
    state.secret("word")

    state.keep("word", "given")

    assert state.secret("word") == "given"
    assert _mode(state.root / "word") == 0o600


def test_port_is_the_same_every_time(state: StateFolder) -> None:
    assert state.port("server") == state.port("server")
    assert state.port("server") != state.port("other")


def test_port_taken_by_somebody_else_is_chosen_anew(state: StateFolder) -> None:
    before = state.port("server")

    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", before))
        somebody.listen()
        after = state.port("server")

    assert after != before
    assert state.port("server") == after


@pytest.mark.parametrize("text", ["", "not a number", "0"])
def test_port_file_damaged_is_chosen_anew(state: StateFolder, text: str) -> None:
    (state.root / "server.port").write_text(text)

    assert state.port("server") > 0


def test_record_gives_back_what_was_noted(state: StateFolder) -> None:
    processes = [Process.of("one", os.getpid()), Process("two", 1, "then", stop_signal=2, is_database=True)]

    state.record(processes)

    assert state.recorded() == processes


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"name": "x"}]'])
def test_recorded_damaged_file_is_nothing(state: StateFolder, text: str) -> None:
    (state.root / "processes.json").write_text(text)

    assert state.recorded() == []


def test_acquire_used_folder_names_the_other_process(state: StateFolder) -> None:
    other = StateFolder(state.root)
    other.acquire(lambda: True)

    with pytest.raises(ConfigurationError, match=rf"process {os.getpid()}.*MILLPOND_STATE_DIR"):
        state.acquire(lambda: True)

    other.release()
    state.acquire(lambda: False)
    state.release()


def test_acquire_of_dead_owner_waits_until_its_guard_has_let_go(state: StateFolder) -> None:
    owner = subprocess.Popen([sys.executable, "-c", ""])
    dead = Process.of("up", owner.pid)
    owner.wait()
    guard = StateFolder(state.root)
    guard.acquire(lambda: False)
    (state.root / "up.lock").write_text(json.dumps(dead.as_dict()))
    asked = 0

    def wait() -> bool:
        nonlocal asked
        asked += 1
        if asked == 3:
            guard.release()
        return True

    state.acquire(wait)

    assert asked == 3
    state.release()
