"""`millpond models`."""

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.commands.models import command
from domain.errors import PullFailed


@pytest.fixture
def runner(tmp_path: Path) -> CliRunner:
    weights = tmp_path / "mine.bin"
    weights.write_bytes(b"weights")
    (tmp_path / "catalogue.toml").write_text(
        f"""
        [pools.debug]
        [tasks."debug.echo"]
        contract = "domain.task_types.debug_echo"
        default_model = "mine"
        [models.mine]
        task = "debug.echo"
        pool = "debug"
        backend = "workers.backends.echo:Echo"
        version = "1"
        license = "MIT"
        files.model = {{ source = "file:{weights}", sha256 = "{hashlib.sha256(b"weights").hexdigest()}" }}
        """
    )
    return CliRunner(env={"MILLPOND_STATE_DIR": str(tmp_path / "state"), "MILLPOND_CATALOGUE": str(tmp_path / "catalogue.toml")})


def test_list_tells_what_is_missing_and_how_to_get_it(runner: CliRunner) -> None:
    before = runner.invoke(command, ["list"], catch_exceptions=False)
    assert "missing" in before.output
    assert "millpond models pull" in before.output
    assert "mine: installed mine.bin" in runner.invoke(command, ["pull"], catch_exceptions=False).output
    after = runner.invoke(command, ["list"], catch_exceptions=False)
    assert "installed" in after.output
    assert "millpond models pull" not in after.output


def test_second_pull_says_that_all_is_there(runner: CliRunner) -> None:
    runner.invoke(command, ["pull", "mine"], catch_exceptions=False)
    assert "all weights are installed" in runner.invoke(command, ["pull"], catch_exceptions=False).output


def test_pull_of_an_unknown_model_names_those_there_are(runner: CliRunner) -> None:
    assert isinstance(runner.invoke(command, ["pull", "nope"]).exception, PullFailed)
