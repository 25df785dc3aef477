"""Where the sentences of a text are, by punctuation: rules for many scripts, no model, linear in the text's length."""

import re

LONGEST_CHARS = 1_000  # a longer stretch without an end of a sentence is cut; encoders read about this much of one

_END = re.compile(
    r"""
    (?: [.!?…]+ ["'”’»)\]]* (?=\s|$)   # Latin, Cyrillic, Greek, …: before white space, or "3.5" would end one
      | [。！？]+ [”’」』）]*            # Chinese, Japanese
      | [।॥؟۔]+                        # Devanagari, Arabic, Urdu
      | \n\s*\n                        # a paragraph ends without any
    )\s*
    """,
    re.VERBOSE,
)
_ABBREVIATION = re.compile(r"(?:^|[\s(\[\"'“‘])(?:Mr|Mrs|Ms|Dr|Prof|St|Rev|Hon|Sr|Jr|Gen|Col|Capt|Lt|Sgt|No|Nos|Vol|vs|cf|e\.g|i\.e|[A-Z])\.$")
_ABBREVIATION_CHARS = 6  # the longest of these, with the character before it and the full stop


def sentence_spans(text: str, longest_chars: int = LONGEST_CHARS) -> list[tuple[int, int]]:
    """Start and end of each sentence of a text, in order, without the white space around them.

    A full stop after a title, an initial or a common abbreviation ends nothing. What is longer than ``longest_chars`` without
    an end is cut, at white space where there is some.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for end in _END.finditer(text):
        dot = end.start() + 1
        if end.group().rstrip() == "." and _ABBREVIATION.search(text, max(start, dot - _ABBREVIATION_CHARS), dot):
            continue
        _add_stretches(spans, text, start, end.end(), longest_chars)
        start = end.end()
    _add_stretches(spans, text, start, len(text), longest_chars)
    return spans


def sentences(text: str) -> list[str]:
    """The sentences of a text; at least one if the text holds anything."""
    return [text[start:end] for start, end in sentence_spans(text)]


def sample(pieces: list[str], most: int, most_chars: int) -> list[str]:
    """Every piece, or every second, third, … from the first on, so that they are at most so many, with about so many characters in all."""
    return pieces[:: max(1, -(-len(pieces) // most), -(-sum(map(len, pieces)) // most_chars))]


def _add_stretches(spans: list[tuple[int, int]], text: str, start: int, end: int, longest_chars: int) -> None:
    """Adds a sentence, in pieces where it is too long."""
    while start < end:
        stretch = text[start : min(end, start + longest_chars)]
        if end - start > longest_chars and (space := stretch.rfind(" ", 1)) > 0:
            stretch = stretch[:space]
        if stripped := stretch.strip():
            first = start + len(stretch) - len(stretch.lstrip())
            spans.append((first, first + len(stripped)))
        start += len(stretch)
