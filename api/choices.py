"""What someone who wrote an unknown name may have meant."""

import difflib
from collections.abc import Iterable

from domain.errors import MAX_ECHO_CHARS


def choices(name: str, known: Iterable[str]) -> str:
    """The names that come close, or all that there are."""
    names = sorted(known)
    close = difflib.get_close_matches(name[:MAX_ECHO_CHARS].lower(), names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names)}"
