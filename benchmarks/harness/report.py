"""Findings, and how they are printed."""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        what: the question.
        ours: this project's figure, as it is shown.
        theirs: what it is compared with.
        ratio: how they relate, as it is shown.
        bar: what was promised; empty where nothing was.
        kept: whether the promise is; None where there is none.
    """

    what: str
    ours: str
    theirs: str = ""
    ratio: str = ""
    bar: str = ""
    kept: bool | None = None


def table(findings: Sequence[Finding], *, against: str) -> str:
    """Findings as a table for people; it is also Markdown."""
    head = ("", "millpond", against, "ratio", "bar", "")
    rows = [(finding.what, finding.ours, finding.theirs, finding.ratio, finding.bar, _verdict(finding.kept)) for finding in findings]
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    lines = ["| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in [head, *rows]]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The median, and the range it comes from."""
    low, high = min(values), max(values)
    return f"{median(values):,.{digits}f} ({low:,.{digits}f}–{high:,.{digits}f})"


def at_least(ratio: float, bar: float) -> tuple[str, str, bool]:
    """A ratio as shown, its bar as shown, and whether it is kept."""
    return f"{ratio:.2f}×", f"≥ {bar:g}×", ratio >= bar


def machine() -> str:
    """What it ran on; the load says whether anything else ran."""
    cores = len(os.sched_getaffinity(0))
    name = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cores} cores of {name or platform.machine()}, {memory_gib:.0f} GiB, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _verdict(kept: bool | None) -> str:  # noqa: FBT001
    return "" if kept is None else "kept" if kept else "MISSED"
