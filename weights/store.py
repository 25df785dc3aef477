"""Where a model's weights lie on disk, and a cheap look at whether they are there.

``<store>/<model>/<filename>`` holds the files, ``<store>/<model>/.manifest.json`` what was verified of them: the SHA-256 that each
had when it was put there, with the size and the time that it still must have. So a start compares two numbers and hashes nothing.
A model that runs another's weights has no folder: its files are the other's.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from domain.catalogue import ModelSpec, WeightsFile
from domain.errors import ModelNotInstalled

MANIFEST = ".manifest.json"


@dataclass(frozen=True, slots=True)
class Verified:
    """One file as it was when its hash was checked."""

    sha256: str
    bytes: int
    mtime_ns: int

    @classmethod
    def now(cls, path: Path, sha256: str) -> "Verified":
        """What to write down about a file whose hash was just checked."""
        stat = path.stat()
        return cls(sha256=sha256, bytes=stat.st_size, mtime_ns=stat.st_mtime_ns)

    def holds(self, path: Path) -> bool:
        """Whether the file is there and was not touched since."""
        try:
            return Verified.now(path, self.sha256) == self
        except OSError:
            return False


def model_folder(store_dir: Path, model: str) -> Path:
    """The folder of a model that has files of its own."""
    return store_dir / model


def owner_of_files(name: str, model: ModelSpec) -> str:
    """The model in whose folder a model's files are."""
    return model.weights_of or name


def read_manifest(folder: Path) -> dict[str, Verified]:
    """What was verified in a model's folder, by file name; nothing if the manifest is missing or unreadable, so it is verified again."""
    try:
        document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return {str(name): Verified(**entry) for name, entry in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def manifest_text(verified: Mapping[str, Verified]) -> str:
    """The manifest's content."""
    return json.dumps({name: asdict(entry) for name, entry in sorted(verified.items())}, indent=1) + "\n"


def missing_files(name: str, model: ModelSpec, store_dir: Path) -> dict[str, WeightsFile]:
    """The files of a model that are not there, or not as the catalogue pins them; by their names in the catalogue."""
    if not model.files:
        return {}
    folder = model_folder(store_dir, owner_of_files(name, model))
    manifest = read_manifest(folder)

    def present(file: WeightsFile) -> bool:
        verified = manifest.get(file.filename)
        return verified is not None and verified.sha256 == file.sha256 and verified.holds(folder / file.filename)

    return {key: file for key, file in model.files.items() if not present(file)}


def installed(name: str, model: ModelSpec, store_dir: Path) -> bool:
    """Whether all weights of a model are there: a few ``stat`` calls; true for a model that has none."""
    return not missing_files(name, model, store_dir)


def model_files(name: str, model: ModelSpec, store_dir: Path) -> dict[str, Path]:
    """Paths of a model's weights, by the names under which its backend asks for them.

    Raises:
        ModelNotInstalled: with the command to run.
    """
    if not installed(name, model, store_dir):
        raise ModelNotInstalled(f"the weights of model {name} are not installed; run `millpond models pull {name}`")
    folder = model_folder(store_dir, owner_of_files(name, model))
    return {key: folder / file.filename for key, file in model.files.items()}
