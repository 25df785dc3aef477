import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.json_gate import MAX_DEPTH, MAX_FIELDS, MAX_INTEGER, parse_json
from domain.errors import InvalidJson, InvalidNumber, JsonTooDeep, MillpondError, UnsupportedMediaType, ValidationFailed

NOT_WELL_FORMED: list[tuple[bytes, type[MillpondError]]] = [
    (b"", InvalidJson),
    (b"   ", InvalidJson),
    (b"{", InvalidJson),
    (b'{"a":1,}', InvalidJson),
    (b"[1,]", InvalidJson),
    (b"{'a':1}", InvalidJson),
    (b"{a:1}", InvalidJson),
    (b'{"a":1} x', InvalidJson),
    (b'{"a":1}{"a":1}', InvalidJson),
    (b'{"a":1} // why', InvalidJson),
    (b'{"a":01}', InvalidJson),
    (b'{"a":+1}', InvalidJson),
    (b'{"a":.5}', InvalidJson),
    (b'{"a":0x10}', InvalidJson),
    (b'{"a":"\n"}', InvalidJson),
    (b'{"a":"\x00"}', InvalidJson),
    (b'{"a":"\\x41"}', InvalidJson),
    (b'{"a":"\xff"}', InvalidJson),
    (b'{"a":"\xed\xa0\x80"}', InvalidJson),  # a surrogate in UTF-8
    (b'{"a":"\xc0\xaf"}', InvalidJson),  # overlong
    (b"\xef\xbb\xbf{}", InvalidJson),  # byte order mark
    (b'{"a":1,"a":1}', InvalidJson),
    (b'{"a":1,"\\u0061":2}', InvalidJson),
    (b'{"b":{"a":1,"c":2,"a":3}}', InvalidJson),
    (b'{"a":NaN}', InvalidNumber),
    (b'{"a":Infinity}', InvalidNumber),
    (b'{"a":-Infinity}', InvalidNumber),
    (b'{"a":1e400}', InvalidNumber),
    (b'{"a":-1e400}', InvalidNumber),
    (b"[" * 100_000, JsonTooDeep),
    (b"[" * 65 + b"]" * 65, JsonTooDeep),
    (b'{"a":' * 3_000 + b"1" + b"}" * 3_000, JsonTooDeep),
    ("{}".encode("utf-16"), UnsupportedMediaType),
    ("{}".encode("utf-16-le"), UnsupportedMediaType),
    ("{}".encode("utf-16-be"), UnsupportedMediaType),
    ("{}".encode("utf-32"), UnsupportedMediaType),
]


@pytest.mark.parametrize(("raw", "error"), NOT_WELL_FORMED, ids=[repr(raw[:30]) for raw, _ in NOT_WELL_FORMED])
def test_parse_json_not_well_formed_is_refused(raw: bytes, error: type[MillpondError]) -> None:
    with pytest.raises(MillpondError) as raised:
        parse_json(raw)
    assert type(raised.value) is error
    assert len(raised.value.message) < 300


CANNOT_BE_TAKEN: list[tuple[bytes, str, str]] = [
    (b'{"a":{"b":["x","\\u0000"]}}', "/a/b/1", "invalid_characters"),
    (b'{"a\\u0000":1}', "", "invalid_characters"),
    (b'{"a":"\\ud800"}', "/a", "invalid_characters"),
    (b'{"a":"\\udc00x"}', "/a", "invalid_characters"),
    (b'{"a":"\\udc00\\ud800"}', "/a", "invalid_characters"),
    (b'{"\\ud800":1}', "", "invalid_characters"),
    (b'{"a":9007199254740993}', "/a", "out_of_range"),
    (b'{"a":-9007199254740993}', "/a", "out_of_range"),
    (b'{"a/b":{"c~d":' + b"9" * 4_000 + b"}}", "/a~1b/c~0d", "out_of_range"),
    (b"[" + b"9" * 100_000 + b"]", "/0", "out_of_range"),
    (b"{" + b",".join(b'"%d":1' % number for number in range(MAX_FIELDS + 1)) + b"}", "", "too_many_fields"),
]


@pytest.mark.parametrize(("raw", "pointer", "code"), CANNOT_BE_TAKEN, ids=[repr(raw[:30]) for raw, _, _ in CANNOT_BE_TAKEN])
def test_parse_json_what_cannot_be_taken_is_named(raw: bytes, pointer: str, code: str) -> None:
    with pytest.raises(ValidationFailed) as raised:
        parse_json(raw)
    assert [(field.pointer, field.code) for field in raised.value.errors] == [(pointer, code)]


def test_parse_json_every_value_that_cannot_be_taken_is_listed() -> None:
    with pytest.raises(ValidationFailed) as raised:
        parse_json(b'{"a":"\\u0000","b":99999999999999999999,"c":"\\u00e9","d":["\\udfff"]}')
    assert [(field.pointer, field.code) for field in raised.value.errors] == [
        ("/a", "invalid_characters"),
        ("/b", "out_of_range"),
        ("/d/0", "invalid_characters"),
    ]


def test_parse_json_takes_what_is_at_its_limits() -> None:
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert parse_json(b'{"a":"' + b"[" * 1_000 + b'\\"{"}') == {"a": "[" * 1_000 + '"{'}
    assert parse_json(b"[9007199254740992,-9007199254740992]") == [MAX_INTEGER, -MAX_INTEGER]
    assert parse_json(b'{"a":"\\ud83d\\ude00"}') == {"a": "😀"}
    assert parse_json(b' {"a" : [ 1.5e3 , -0 , null, true ] }\n') == {"a": [1500.0, 0, None, True]}
    assert parse_json('"naïve"'.encode()) == "naïve"


def reference(raw: bytes) -> Any:
    """The same rules, written slowly and apart: the value, or the name of the refusal."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return "refused"

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in items}) < len(items):
            raise ValueError
        return dict(items)

    def refuse(_: str) -> Any:
        raise ValueError

    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=refuse)
    except (ValueError, RecursionError):
        return "refused"
    return "refused" if any(walk(value, 1)) else value


def walk(value: Any, depth: int) -> Iterator[bool]:
    if isinstance(value, str):
        yield "\x00" in value or any("\ud800" <= char <= "\udfff" for char in value)
    elif isinstance(value, float):
        yield not math.isfinite(value)
    elif isinstance(value, int):
        yield abs(value) > 2**53
    elif isinstance(value, list | dict):
        yield depth > 64
        for inner in value:
            yield from walk(inner, depth + 1)
        if isinstance(value, dict):
            for inner in value.values():
                yield from walk(inner, depth + 1)


def parsed(raw: bytes) -> Any:
    try:
        return parse_json(raw)
    except MillpondError:
        return "refused"


TEXTS = st.text(st.characters() | st.sampled_from('\x00\ud800\udfff"\\[]{}:,'), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | TEXTS | st.integers(-(2**60), 2**60) | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(VALUES, st.booleans(), st.integers(0, 66))
def test_parse_json_agrees_with_the_slow_reference_on_documents(value: Any, ascii_only: bool, depth: int) -> None:
    document = "[" * depth + json.dumps(value, ensure_ascii=ascii_only) + "]" * depth
    raw = document.encode("utf-8", "surrogatepass")
    assert parsed(raw) == reference(raw)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.sampled_from(['{"a":', "{", "}", "[", "]", ",", '"a":1', '"b":2', '"', "\\u0000", "\\ud800", "1e999", "9" * 20, "NaN", " ", "x", "\\"]), max_size=10
    )
)
def test_parse_json_agrees_with_the_slow_reference_on_fragments(parts: list[str]) -> None:
    raw = "".join(parts).encode()
    assert parsed(raw) == reference(raw)
