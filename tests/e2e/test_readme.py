"""The README's examples, run as they stand against the platform that `make run` starts."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.embedded import Up
from tests.support.platform import free_port

PROJECT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_MARK = "=== block"

# What each example's output must hold, in the order of the README.
EXPECTED = (
    ['"status":"succeeded"', '"label":"positive"'],
    ['"task":"text.embedding"', '"metadata":{"order":"42"}'],
    ["event: output.delta", "event: completed"],
    ['"data":[', '"outcome":"succeeded"'],
    ['"custom_id":"a"', '"language":"de"', '"custom_id":"b"', '"language":"fr"'],
    ['"status":"canceled"'],
    ['"status":"succeeded"', '"routing":{"policy":"best"', '"reasons":['],
    ['"object":"feedback"', '"score":', '"days":['],
    ['"status":"succeeded"', '"language":"it"', '"agreement":1', '"children":['],
    ['"status":"succeeded"', '"cascade":{', '"saved_usd":'],
    ['"content_type":"image/png"', '"code":"model_not_installed"'],
    ['"state":"delivered"', '"type":"job.succeeded"', " job.succeeded job_"],
    ['"data":[{"id":"evt_', '"next_cursor":"evt_'],
    ["Paris", "generation", "ok"],
)


def examples() -> list[str]:
    """The blocks that speak to a running platform; compose and more workers are for real servers."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## What you can do with it") : text.index("## Errors")]
    return _BLOCK.findall(section)


@pytest.fixture(scope="module")
def outputs(platform: Up) -> list[str]:
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MILLPOND_URL": platform.url,
        "MILLPOND_KEY": platform.key,
        "MILLPOND_STATE_DIR": str(platform.state_dir),
        "MILLPOND_PORT": str(platform.port),
        "PORT": str(free_port()),
        "LC_ALL": "C.UTF-8",
    }
    script = "\n".join(f"echo '{_MARK}'\n{block}" for block in examples())
    ran = subprocess.run(["bash", "-c", script], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    return [f"{part}\n{ran.stderr}" for part in ran.stdout.split(_MARK)[1:]]


def test_readme_has_an_expectation_for_every_example() -> None:
    assert len(examples()) == len(EXPECTED)


@pytest.mark.curl
@pytest.mark.parametrize("number", range(len(EXPECTED)))
def test_readme_example_when_run_as_printed_shows_what_it_says(outputs: list[str], number: int) -> None:
    for expected in EXPECTED[number]:
        assert expected in outputs[number]


@pytest.mark.curl
def test_readme_curl_line_answers_json(outputs: list[str]) -> None:
    first = next(line for line in outputs[0].splitlines() if line.startswith("{"))
    assert json.loads(first)["object"] == "job"
