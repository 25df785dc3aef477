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


def sentences(text: str) -> list[str]:
    """The sentences of a text, in order, without the white space around them; at least one if the text holds anything.

    A full stop after a title, an initial or a common abbreviation ends nothing. A stretch of more than 1,000 characters
    without an end is cut, at white space where there is some.
    """
    found = []
    start = 0
    for end in _END.finditer(text):
        if end.group().rstrip() == "." and _ABBREVIATION.search(text, max(start, end.start() - 12), end.start() + 1):
            continue
        found += _stretches(text[start : end.end()].strip())
        start = end.end()
    return found + _stretches(text[start:].strip())


def _stretches(sentence: str) -> list[str]:
    """The sentence, in pieces where it is too long."""
    pieces = []
    while len(sentence) > LONGEST_CHARS:
        space = sentence.rfind(" ", 1, LONGEST_CHARS)
        cut = space if space > 0 else LONGEST_CHARS
        pieces.append(sentence[:cut].rstrip())
        sentence = sentence[cut:].lstrip()
    return [*pieces, sentence] if sentence else pieces


def sample(pieces: list[str], most: int) -> list[str]:
    """At most so many of the pieces: every second, third, … from the first on, so that the whole text has its say."""
    return pieces[:: max(1, -(-len(pieces) // most))]
