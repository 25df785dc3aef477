"""A real server of OpenAI's transcriptions: faster-whisper-server, which others wrote, with Whisper's weights of the catalogue behind it."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import yaml

from tests.support.platform import Running, free_port
from tests.support.waiting import wait_until


class TranscriptionServer:
    """A process on a loopback port, which can be killed and started again at the same address.

    It has no keys, answers what it cannot read with 500, and takes the model's name from a field that OpenAI does not have
    (``model_name``): of whoever sends ``model`` it believes that they want ``whisper-1``.

    Args:
        files: of a Whisper model of the catalogue.
        folder: for the model as one file, and the log.
        name: of the only model that it serves.
    """

    def __init__(self, files: Mapping[str, Path], folder: Path, *, name: str = "whisper-1") -> None:
        self._log = folder / "server.log"
        self._port = free_port()
        self._config = folder / "server.yaml"
        model = {"name": name, "path": str(folder), "model_options": {"device": "cpu", "compute_type": "int8", "cpu_threads": 2}}
        self._config.write_text(yaml.safe_dump({"models": [{**model, "transcribe_options": {"beam_size": 1}}]}), encoding="utf-8")
        for key in ("config", "tokenizer", "vocabulary"):
            (folder / files[key].name).symlink_to(files[key].resolve())
        with (folder / "model.bin").open("wb") as whole:
            whole.writelines(files[part].read_bytes() for part in sorted(files) if part.startswith("part"))

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> None:
        """Starts it; the model is loaded by the first request."""
        command = [sys.executable, "-m", "faster_whisper_server", "--config", str(self._config), "--host", "127.0.0.1", "--port", str(self._port)]
        self.process = Running(command, environment={**os.environ, "HF_HUB_OFFLINE": "1"}, log=self._log, name="faster-whisper-server")

    def ready(self) -> None:
        """Waits until it answers."""
        wait_until(lambda: self.process.exit_code is not None or self._answers(), 60.0, what="the transcription server to answer", every_s=0.1)
        assert self.process.exit_code is None, self.process.last_words()

    def computed_s(self) -> float:
        """How much it has computed since its start: it only does while it transcribes."""
        times = self.process.process.cpu_times()
        return times.user + times.system

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self._port}/health", timeout=5.0).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.end()
