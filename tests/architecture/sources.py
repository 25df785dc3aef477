"""The project's own source files, parsed once."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
CODE = ("api", "broker", "cli", "domain", "migrations", "models", "settings", "storage", "telemetry", "weights", "workers")
AROUND = ("benchmarks", "docs", "examples", "tests")


@dataclass(frozen=True)
class Source:
    """One file: its path from the root of the repository, its text, its syntax tree."""

    path: PurePosixPath
    text: str
    tree: ast.Module

    @classmethod
    def of(cls, path: str, text: str) -> "Source":
        """Parses a text as if it lay at ``path``."""
        return cls(PurePosixPath(path), text, ast.parse(text, filename=path))

    def under(self, *folders: str) -> bool:
        """Whether the file is, or lies in, one of these."""
        return any(self.path.is_relative_to(folder) for folder in folders)

    def at(self, node: ast.AST, what: str) -> str:
        """A finding, as an editor can jump to it."""
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {what}"

    def walk(self) -> Iterator[ast.AST]:
        """Every node."""
        return ast.walk(self.tree)

    def imported(self) -> Iterator[tuple[ast.AST, str]]:
        """Every absolute import, as a dotted name that ends in the imported thing."""
        for node in self.walk():
            if isinstance(node, ast.Import):
                yield from ((node, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    """Every Python file under these folders of the repository."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py") if path.is_file())
    return tuple(Source.of(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths)


def called(node: ast.AST) -> str:
    """The dotted name of a call's function (``session.commit``), or of a name; empty for anything else."""
    match node:
        case ast.Call(func=function):
            return called(function)
        case ast.Attribute(value=value, attr=attr):
            return f"{called(value)}.{attr}"
        case ast.Name(id=name):
            return name
        case _:
            return ""
