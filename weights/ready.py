"""Whether a model can run here: its weights lie in the store, the settings hold its provider's key, and its runtime can be imported."""

import re
import signal
import subprocess
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from domain.catalogue import ModelSpec
from weights.store import installed

IMPORT_S = 60.0  # from a cold disk the largest runtimes take a tenth of it
_IMPORT = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
_LIBRARY = re.compile(r"([\w.+-]+\.so[.\d]*): cannot open shared object file")
_PACKAGES = {"libgomp.so.1": "libgomp1"}  # what Debian calls the libraries that our runtimes take from the system


def lacking(name: str, model: ModelSpec, store_dir: Path, keys: Collection[str]) -> str | None:
    """What a model needs and does not have here, as what to do about it; None where nothing is lacking.

    Args:
        name: of the model.
        model: its entry.
        store_dir: where weights lie.
        keys: names of the providers' keys that there are.
    """
    if not installed(name, model, store_dir):
        return f"run `millpond models pull {name}`"
    if model.provider_key is not None and model.provider_key not in keys:
        return f"put the key {model.provider_key!r} of its provider into MILLPOND_PROVIDER_KEYS"
    return None


def import_error(backends: Iterable[str]) -> str | None:
    """Why the modules of some backends cannot be imported here; None where they can.

    It is tried in a process of its own: this one needs no runtime, and outlives one that crashes.

    Args:
        backends: their dotted paths, as the catalogue has them.
    """
    modules = sorted({backend.partition(":")[0] for backend in backends})
    try:
        tried = subprocess.run([sys.executable, "-c", _IMPORT, *modules], capture_output=True, text=True, timeout=IMPORT_S, check=False)  # noqa: S603  # a list, no shell
    except subprocess.TimeoutExpired:
        return f"the import takes over {IMPORT_S:g} s"
    if tried.returncode < 0:
        return f"the import was killed by {signal.Signals(-tried.returncode).name}"
    if tried.returncode:
        return next(reversed(tried.stderr.strip().splitlines()), f"the import ended with exit code {tried.returncode}")
    return None


def remedy(error: str) -> str:
    """What to do about a model that does not load.

    Args:
        error: the type and message of what was raised, in one line.
    """
    if library := _LIBRARY.search(error):
        package = _PACKAGES.get(library[1])
        return f"install the system's library {library[1]}" + (f" (on Debian and Ubuntu: `apt install {package}`)" if package else "")
    if "No module named" in error:
        return "install the Python packages of its pool (`make run POOLS=all` brings those of every pool)"
    return "look at the log of its worker"
