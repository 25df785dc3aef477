"""What docs/glossary.md and CONTRIBUTING.md ask of the code and a machine can see: one function a rule, yielding what breaks it."""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache

from tests.architecture.sources import AROUND, CODE, Source, called, sources

Rule = Callable[[Source], Iterator[str]]

MAX_FILE_LINES = 450
MAX_TEST_FILE_LINES = 650  # tables of cases
MAX_FUNCTION_LINES = 80

_SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "core", "manager", "managers", "misc", "base_utils"}
_SQL_BUILDERS = {"text", "select", "insert", "update", "delete", "literal_column"}
_SQL = re.compile(
    r"\s*(SELECT\s|INSERT\s+INTO\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s|WITH\s+\w+.*\sAS\s|(CREATE|ALTER|DROP)\s+(TABLE|INDEX|DATABASE|ROLE|USER|SCHEMA)\s)",
    re.DOTALL,
)
_DURATIONS = {"timeout", "delay", "interval", "wait", "duration", "period", "backoff", "grace", "ttl", "elapsed", "age", "latency", "retention"}
_SIZES = {"memory", "rss"}
_FOREIGN_UNITS = {"sec", "secs", "seconds", "millis", "msec", "milliseconds", "minutes", "hours", "days", "kb", "mb", "gb", "kib", "gib"}
_CELERY_KEYWORDS = {"countdown", "eta", "autoretry_for", "retry_backoff"}
_CELERY_NAMES = {"AsyncResult", "revoke", "apply_async_on_commit"}
_EFFECTS = {"asyncio", "os", "random", "secrets", "shutil", "socket", "subprocess", "tempfile", "threading", "time", "urllib.request", "pathlib.Path"}
_CLOCK = re.compile(r"(^|\.)(now|utcnow|today)$")

# SQL outside models/: what administers a server, before there is a database to have records in.
_SQL_ALLOWED = ("models", "migrations", "cli/embedded")

# Reading the environment outside settings/: why this file must.
_ENVIRONMENT_ALLOWED: Mapping[str, str] = {
    "cli/embedded": "hands its own environment on to the servers and processes that it starts",
    "cli/up.py": "hands its own environment on to the processes that it starts",
}

# Raised, though no MillpondError: who catches it.
_RAISE_ALLOWED: Mapping[str, str] = {
    "DatabaseAway": "internal; the API's error table and the workers' loops map it",
    "LockedRow": "internal; the API's error table and the workers' loops map it",
    "InvalidatePoolError": "SQLAlchemy's word for connecting anew; its pool takes it",
    "OverLimit": "internal; the API makes a field error of it",
    "BrokerAway": "internal; the publisher's breaker and the relay take it",
    "MessageNacked": "the broker's refusal among the connection's own errors, all of which become BrokerAway where a message is sent",
    "StoreAway": "internal; the routes of files answer 503, a run fails for now, the eraser's next pass goes on",
    "StoreRefuses": "internal, a kind of StoreAway; the eraser goes on with the next object",
    "ObjectGone": "internal; the routes of files answer 404, a run fails for good",
    "UnreadableMessage": "internal; the worker drops the message",
    "ModelNotLoaded": "internal; tells a worker's main process which model its child could not load",
    "RefusedUrl": "the API makes a field error of it, the sender a try's error",
    "BadSecret": "internal; the sender makes a try's error of it",
    "UnknownSealingKey": "internal; a session that cannot open its secret gives back what it holds",
    "Forbidden": "internal, httpcore's kind; the outbound client maps it",
    "NotResolved": "internal; the outbound client maps it",
    "TimeIsUp": "internal, httpcore's kind; the outbound client maps it",
    "TlsFailed": "internal, httpcore's kind; the outbound client maps it",
    "ConnectError": "httpcore's own, as its transports must raise it; the outbound client maps it",
    "ReadError": "httpcore's own, as its transports must raise it; the outbound client maps it",
    "WriteError": "httpcore's own, as its transports must raise it; the outbound client maps it",
    "TimeoutError": "internal; caught in the loop over addresses that raises it",
    "Reject": "Celery's word for giving a message back",
    "ValueError": "only inside pydantic validators, which turn it into a field error",
    "PydanticCustomError": "only inside pydantic validators, which turn it into a field error",
    "TypeError": "only inside orjson's default function, whose contract it is",
    "MemoryError": "debug.echo raises it on request, as a model that ran out would",
}


def has_a_docstring(source: Source) -> Iterator[str]:
    """Every module and package says what it is for."""
    if not (ast.get_docstring(source.tree) or "").strip():
        yield source.at(source.tree, "no module docstring")


def is_named_by_what_it_holds(source: Source) -> Iterator[str]:
    """No ``utils``, ``helpers``, ``common``, ``core``, ``manager``, as a file or a folder."""
    for part in (*source.path.parts[:-1], source.path.stem):
        if part in _SAYS_NOTHING:
            yield source.at(source.tree, f"the name {part!r} says nothing")


def is_short_enough(source: Source) -> Iterator[str]:
    """A file is one room with one purpose; a function fits on a screen or two."""
    if (lines := len(source.text.splitlines())) > (MAX_TEST_FILE_LINES if source.under("tests") else MAX_FILE_LINES):
        yield source.at(source.tree, f"{lines} lines in a file")
    if source.under("migrations"):
        return  # one statement that lists the columns of a table may be long
    for node in source.walk():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (lines := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES:
            yield source.at(node, f"{lines} lines in {node.name}")


_COMMITTING = (".commit", "engine.begin", "connection.begin", ".begin_nested")


def commits_in_one_place(source: Source) -> Iterator[str]:
    """``models/transactions.py`` alone commits."""
    for node in source.walk():
        if isinstance(node, ast.Call) and called(node).endswith(_COMMITTING) and source.path.as_posix() != "models/transactions.py":
            yield source.at(node, "commits")


def keeps_sql_in_models(source: Source) -> Iterator[str]:
    """SQL is built and written in ``models/`` (and migrations) alone."""
    if source.under(*_SQL_ALLOWED):
        return
    for node, name in source.imported():
        if name.startswith("sqlalchemy.") and name.rpartition(".")[2] in _SQL_BUILDERS:
            yield source.at(node, f"builds SQL with {name}")
    for node in source.walk():
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _SQL.match(node.value):
            yield source.at(node, "holds SQL")


def names_its_units(source: Source) -> Iterator[str]:
    """Numeric durations and sizes, as parameters and fields, end in ``_s``, ``_ms``, ``_at``, ``_bytes`` or ``_mib``."""
    for node in source.walk():
        match node:
            case ast.arg(arg=name, annotation=annotation) | ast.AnnAssign(target=ast.Name(id=name), annotation=annotation) if annotation is not None:
                kind = ast.unparse(annotation)
                numeric = re.search(r"\b(int|float|Seconds)\b", kind) and not re.search(r"Callable|Mapping|dict", kind)
                stem, _, last = name.lower().rpartition("_")
                if numeric and (last in _DURATIONS | _SIZES or (stem and last in _FOREIGN_UNITS)):
                    yield source.at(node, f"{name} does not say its unit")


@cache
def _bases() -> Mapping[str, frozenset[str]]:
    return _bases_in(*sources(*CODE))


def _bases_in(*files: Source) -> Mapping[str, frozenset[str]]:
    classes = (node for source in files for node in source.walk() if isinstance(node, ast.ClassDef))
    return {node.name: frozenset(called(base).rpartition(".")[2] for base in node.bases) for node in classes}


def _is_ours(name: str, bases: Mapping[str, frozenset[str]]) -> bool:
    return name == "MillpondError" or any(_is_ours(base, bases) for base in bases.get(name, ()))


def raises_our_errors(source: Source) -> Iterator[str]:
    """What is raised is a MillpondError, or explained above; variables are re-raised freely."""
    bases = {**_bases(), **_bases_in(source)}
    for node in source.walk():
        if isinstance(node, ast.Raise) and node.exc is not None:
            name = called(node.exc).rpartition(".")[2]
            if name[:1].isupper() and name not in _RAISE_ALLOWED and not _is_ours(name, bases):
                yield source.at(node, f"raises {name}, which is no MillpondError")


def leaves_the_environment_to_settings(source: Source) -> Iterator[str]:
    """``os.environ`` and ``os.getenv`` are read in ``settings/`` alone, and that through pydantic-settings."""
    if any(source.under(path) for path in _ENVIRONMENT_ALLOWED):
        return
    for node in source.walk():
        if isinstance(node, ast.Attribute) and called(node) in {"os.environ", "os.getenv", "os.environb", "os.putenv"}:
            yield source.at(node, "reads the environment")
    for node, name in source.imported():
        if name in {"os.environ", "os.getenv"}:
            yield source.at(node, "reads the environment")


def leaves_celerys_own_timing_alone(source: Source) -> Iterator[str]:
    """Celery's ETA, countdown, autoretry, results and revoke are not used: the database knows when and whether a job runs."""
    for node in source.walk():
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg in _CELERY_KEYWORDS:
                    yield source.at(node, f"uses Celery's {keyword.arg}")
        if isinstance(node, ast.Attribute | ast.Name) and called(node).rpartition(".")[2] in _CELERY_NAMES:
            yield source.at(node, f"uses Celery's {called(node).rpartition('.')[2]}")


def is_pure(source: Source) -> Iterator[str]:
    """``domain/`` does no I/O, reads no clock and throws no dice."""
    if not source.under("domain"):
        return
    for node, name in source.imported():
        if any(name == effect or name.startswith(f"{effect}.") for effect in _EFFECTS):
            yield source.at(node, f"imports {name}")
    for node in source.walk():
        if isinstance(node, ast.Call) and (called(node) in {"open", "print", "input"} or _CLOCK.search(called(node))):
            yield source.at(node, f"calls {called(node)}")


def stands_alone(source: Source) -> Iterator[str]:
    """A migration imports nothing of the application: import-linter does not see ``migrations/versions``, which is no package."""
    if source.under("migrations"):
        for node, name in source.imported():
            if name.partition(".")[0] in CODE:
                yield source.at(node, f"imports {name}")


def waits_for_conditions(source: Source) -> Iterator[str]:
    """A test waits on a condition with a deadline (``tests.support.waiting``); it does not sleep."""
    if source.under("tests") and source.path.as_posix() != "tests/support/waiting.py":
        for node in source.walk():
            if isinstance(node, ast.Call) and called(node) in {"time.sleep", "sleep", "asyncio.sleep"}:
                yield source.at(node, "sleeps")


def skips_nothing(source: Source) -> Iterator[str]:
    """A test runs; what needs servers says so by its marker, and tests/conftest.py decides."""
    if source.under("tests"):
        for node in source.walk():
            if isinstance(node, ast.Attribute | ast.Name) and re.search(r"(^|\.)(skip|skipif|xfail|importorskip)$", called(node)) and "pytest" in called(node):
                yield source.at(node, f"uses {called(node)}")


EVERYWHERE: tuple[Rule, ...] = (is_named_by_what_it_holds, is_short_enough, waits_for_conditions, skips_nothing)
IN_THE_CODE: tuple[Rule, ...] = (
    has_a_docstring,
    commits_in_one_place,
    keeps_sql_in_models,
    names_its_units,
    leaves_the_environment_to_settings,
    leaves_celerys_own_timing_alone,
    is_pure,
    stands_alone,
)
IN_THE_PLATFORM: tuple[Rule, ...] = (raises_our_errors,)
PLATFORM = ("api", "broker", "domain", "models", "storage", "telemetry", "weights", "workers")

SCOPES: Mapping[Rule, tuple[str, ...]] = {
    **dict.fromkeys(EVERYWHERE, (*CODE, *AROUND)),
    **dict.fromkeys(IN_THE_CODE, CODE),
    **dict.fromkeys(IN_THE_PLATFORM, PLATFORM),
}
