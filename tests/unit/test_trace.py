"""W3C trace context: what is one, and how it goes on."""

import pytest

from domain.trace import continued, is_traceparent

TRACE, PARENT = "ab" * 16, "cd" * 8


@pytest.mark.parametrize("version", ["00", "01"])
def test_continued_keeps_the_trace_and_its_flags_under_a_new_parent(version: str) -> None:
    assert continued(f"{version}-{TRACE}-{PARENT}-01", bytes(range(8))) == {"traceparent": f"00-{TRACE}-0001020304050607-01"}


@pytest.mark.parametrize(
    "header",
    [
        "nonsense",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01\n",
    ],
)
def test_what_the_standard_calls_invalid_is_no_trace(header: str) -> None:
    assert not is_traceparent(header)
    assert continued(header, bytes(8)) == {}


def test_without_a_trace_there_is_no_header() -> None:
    assert continued(None, bytes(8)) == {}
