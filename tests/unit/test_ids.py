import threading
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ids import Prefix, decode, encode, uuid7
from models.identity import new_id

NAMES = st.sampled_from(list(Prefix))


@given(NAMES, st.uuids())
def test_ids_encoded_and_decoded_are_the_same(prefix: Prefix, value: UUID) -> None:
    text = encode(prefix, value)
    assert decode(prefix, text) == value
    assert text == text.lower()
    assert len(text) == len(prefix) + 27


@given(st.uuids(), st.uuids())
def test_ids_sort_as_their_uuids_do(one: UUID, other: UUID) -> None:
    assert (one < other) == (encode(Prefix.JOB, one) < encode(Prefix.JOB, other))


GOOD = encode(Prefix.JOB, UUID(int=5))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "job",
        "job_",
        GOOD[:-1],
        GOOD + "0",
        GOOD.upper(),
        GOOD.replace("job", "bat"),
        "job_8" + "0" * 25,
        "job_" + "l" * 26,
        "job_" + "é" * 26,
        str(UUID(int=5)),
    ],
)
def test_ids_malformed_are_none(text: str) -> None:
    assert decode(Prefix.JOB, text) is None


@given(st.text(max_size=40))
def test_ids_any_text_is_decoded_or_refused_without_error(text: str) -> None:
    decode(Prefix.JOB, text)


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_uuid7_has_version_variant_and_time(unix_ms: int, entropy: bytes) -> None:
    value = uuid7(unix_ms, entropy)
    assert value.version == 7
    assert value.variant == "specified in RFC 4122"
    assert value.int >> 80 == unix_ms


def test_new_ids_rise_even_from_several_threads() -> None:
    made: list[list[UUID]] = [[] for _ in range(4)]

    def make(mine: list[UUID]) -> None:
        mine.extend(new_id() for _ in range(2_000))

    threads = [threading.Thread(target=make, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(mine == sorted(mine) for mine in made)
    assert len({value for mine in made for value in mine}) == 8_000
    assert {value.version for mine in made for value in mine} == {7}
