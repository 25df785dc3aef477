"""Every rule holds in the whole project, and finds what it is there to find."""

import pytest

from tests.architecture.rules import (
    MAX_FILE_LINES,
    MAX_FUNCTION_LINES,
    SCOPES,
    Rule,
    commits_in_one_place,
    has_a_docstring,
    is_named_by_what_it_holds,
    is_pure,
    is_short_enough,
    keeps_sql_in_models,
    leaves_celerys_own_timing_alone,
    leaves_the_environment_to_settings,
    names_its_units,
    raises_our_errors,
    skips_nothing,
    stands_alone,
    waits_for_conditions,
)
from tests.architecture.sources import Source, sources

BREACHES: list[tuple[Rule, str, str]] = [
    (has_a_docstring, "api/app.py", "x = 1"),
    (has_a_docstring, "api/app.py", '"""  """'),
    (is_named_by_what_it_holds, "api/utils.py", ""),
    (is_named_by_what_it_holds, "workers/common/batch.py", ""),
    (is_short_enough, "api/app.py", "x = 1\n" * (MAX_FILE_LINES + 1)),
    (is_short_enough, "api/app.py", "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES),
    (commits_in_one_place, "models/queries/claim.py", "connection.commit()"),
    (commits_in_one_place, "workers/lease.py", "with self._engine.begin() as connection: pass"),
    (commits_in_one_place, "workers/lease.py", "with connection.begin(): pass"),
    (commits_in_one_place, "workers/lease.py", "with connection.begin_nested(): pass"),
    (commits_in_one_place, "api/app.py", "with engine.begin() as c:\n    c.connection.commit()"),
    (keeps_sql_in_models, "api/app.py", "from sqlalchemy import select"),
    (keeps_sql_in_models, "workers/lease.py", "q = 'SELECT id FROM jobs'"),
    (keeps_sql_in_models, "workers/lease.py", "q = f'''\n  UPDATE jobs SET status = {x}'''"),
    (names_its_units, "api/app.py", "def f(timeout: float) -> None: ..."),
    (names_its_units, "api/app.py", "def f(*, max_wait: int | None = None) -> None: ..."),
    (names_its_units, "api/app.py", "class A:\n    delay_seconds: float = 1"),
    (raises_our_errors, "workers/a.py", "raise RuntimeError('x')"),
    (raises_our_errors, "workers/a.py", "class A(Exception): ...\nraise A from e"),
    (leaves_the_environment_to_settings, "api/app.py", "import os\nx = os.environ['A']"),
    (leaves_the_environment_to_settings, "api/app.py", "import os\nx = os.getenv('A')"),
    (leaves_the_environment_to_settings, "api/app.py", "from os import environ"),
    (leaves_celerys_own_timing_alone, "workers/a.py", "task.apply_async(countdown=3)"),
    (leaves_celerys_own_timing_alone, "workers/a.py", "app.control.revoke(i)"),
    (leaves_celerys_own_timing_alone, "api/a.py", "AsyncResult(i)"),
    (is_pure, "domain/a.py", "import time"),
    (is_pure, "domain/a.py", "from pathlib import Path"),
    (is_pure, "domain/a.py", "from datetime import UTC, datetime\nx = datetime.now(UTC)"),
    (is_pure, "domain/a.py", "open('x')"),
    (stands_alone, "migrations/versions/0009_a.py", "from domain.job import Status"),
    (waits_for_conditions, "tests/unit/test_a.py", "import time\ntime.sleep(1)"),
    (skips_nothing, "tests/unit/test_a.py", "import pytest\n@pytest.mark.skipif(True)\ndef test(): ..."),
    (skips_nothing, "tests/unit/test_a.py", "import pytest\npytest.skip('later')"),
]

NO_BREACHES: list[tuple[Rule, str, str]] = [
    (commits_in_one_place, "models/transactions.py", "with engine.begin() as connection: pass"),
    (keeps_sql_in_models, "models/queries/claim.py", "q = 'SELECT 1'"),
    (keeps_sql_in_models, "api/app.py", "x = 'Select a model, or leave it out'"),
    (names_its_units, "api/app.py", "def f(timeout_s: float, retention: 'Retention') -> None: ..."),
    (raises_our_errors, "workers/a.py", "raise error"),
    (raises_our_errors, "workers/a.py", "from domain import failures\nraise failures.ModelError('x') from e"),
    (is_pure, "api/app.py", "import time"),
]


@pytest.mark.parametrize("rule", SCOPES, ids=lambda rule: rule.__name__)
def test_rule_holds(rule: Rule) -> None:
    findings = [finding for source in sources(*SCOPES[rule]) for finding in rule(source)]

    assert not findings, f"{rule.__doc__}\n" + "\n".join(findings)


@pytest.mark.parametrize(("rule", "path", "code"), BREACHES, ids=[f"{rule.__name__}-{number}" for number, (rule, _, _) in enumerate(BREACHES)])
def test_rule_broken_on_purpose_is_found(rule: Rule, path: str, code: str) -> None:
    assert list(rule(Source.of(path, code)))


@pytest.mark.parametrize(("rule", "path", "code"), NO_BREACHES, ids=[f"{rule.__name__}-{number}" for number, (rule, _, _) in enumerate(NO_BREACHES)])
def test_rule_kept_finds_nothing(rule: Rule, path: str, code: str) -> None:
    assert not list(rule(Source.of(path, code)))


def test_every_rule_has_a_breach() -> None:
    assert set(SCOPES) == {rule for rule, _, _ in BREACHES}
