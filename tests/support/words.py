"""Comparing what was said with what was written down."""

import re


def word_error_rate(said: str, heard: str) -> float:
    """How many words were missed, made up or mistaken, for each word that was said; case and punctuation do not count."""
    words, found = (re.findall(r"[a-z']+", text.lower()) for text in (said, heard))
    costs = list(range(len(found) + 1))
    for row, word in enumerate(words, start=1):
        before, costs[0] = costs[0], row
        for column, other in enumerate(found, start=1):
            before, costs[column] = costs[column], min(costs[column] + 1, costs[column - 1] + 1, before + (word != other))
    return costs[-1] / len(words)
