"""The documentation is fresh, whole, and points at things that are there."""

import json
import re
from pathlib import Path

import pytest

from docs.generate import DOCUMENTS, errors, main, openapi
from settings import Settings
from tests.architecture.sources import ROOT

RECORDS = sorted(path for path in (ROOT / "docs/decisions").glob("[0-9]*.md") if not path.name.startswith("0000"))
SECTIONS = ["Context", "Decision", "Consequences", "Alternatives", "Enforced by"]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_PATH = re.compile(r"`((?:[\w.-]+/)+[\w.*-]*|[\w-]+\.(?:toml|yml|lock|py|md))(?:::\w+)?`")


def test_generated_documents_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", DOCUMENTS)
def test_generated_document_edited_by_hand_is_noticed(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--into", str(tmp_path)])
    assert main(["--check", "--into", str(tmp_path)]) == 0
    (tmp_path / name).write_text((tmp_path / name).read_text(encoding="utf-8") + "and more\n", encoding="utf-8")

    assert main(["--check", "--into", str(tmp_path)]) == 1
    assert f"not what the code says: {name};" in capsys.readouterr().err


def test_settings_document_shows_what_a_setting_is_by_default_and_which_ones_logs_never_hold() -> None:
    rows = {row.split("`")[1]: row for row in DOCUMENTS["docs/generated/settings.md"]().splitlines() if row.startswith("| `")}
    secret = {f"MILLPOND_{name.upper()}" for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}

    assert "MILLPOND_PROVIDER_KEYS" in secret
    assert {name for name, row in rows.items() if "kept out of logs" in row} == secret
    assert not [name for name, row in rows.items() if "Undefined" in row or "``" in row]


def test_list_of_errors_has_every_code_that_a_problem_may_have() -> None:
    problem = json.loads(openapi())["components"]["schemas"]["Problem"]

    assert set(problem["properties"]["code"]["enum"]) <= set(re.findall(r"^\| `(\w+)` \|", errors(), re.MULTILINE))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_decision_has_every_part_and_says_what_enforces_it(record: Path) -> None:
    text = record.read_text(encoding="utf-8")

    assert text.startswith(f"# {record.name[:4]}: ")
    assert re.search(r"^Status: (proposed|accepted|replaced by \d{4})$", text, re.MULTILINE)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    enforced_by = text.partition("## Enforced by")[2]
    for path in _PATH.findall(enforced_by):
        assert list(ROOT.glob(path)), f"{path} is not there"


def test_decisions_have_numbers_of_their_own() -> None:
    numbers = [path.name[:4] for path in RECORDS]

    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target
