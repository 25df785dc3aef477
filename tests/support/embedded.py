"""`millpond up` in a folder of a test's own, as `make run` starts it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.platform import free_port
from tests.support.waiting import wait_until

PROJECT = Path(__file__).resolve().parents[2]
START_S = 180.0
STOP_S = 30.0


@dataclass(frozen=True, slots=True)
class Up:
    """A running platform."""

    url: str
    port: int
    key: str
    state_dir: Path


@contextmanager
def up(state_dir: Path, models_dir: Path) -> Iterator[Up]:
    """Starts everything in an empty state folder, with weights that are there already; stops it as Ctrl-C does."""
    state_dir.mkdir(parents=True, exist_ok=True)
    (state_dir / "models").symlink_to(models_dir.absolute())
    port = free_port()
    environment = os.environ | {"MILLPOND_STATE_DIR": str(state_dir), "MILLPOND_PORT": str(port)}
    log = state_dir / "up.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "up"], cwd=PROJECT, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_until(lambda: _serves(process, log), deadline_s=START_S)
        yield Up(f"http://127.0.0.1:{port}", port, (state_dir / "bootstrap_key").read_text().strip(), state_dir)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def _serves(process: subprocess.Popen[bytes], log: Path) -> bool:
    said = log.read_text(encoding="utf-8", errors="replace")
    if process.poll() is not None:
        raise AssertionError(f"`millpond up` ended with {process.returncode}:\n{said}")
    return "Serving." in said
