import json
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.messages import MAX_IDS, SCHEMA, JobsMessage, UnreadableMessage

IDS = st.lists(st.uuids(), min_size=1, max_size=20).map(tuple)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
GOOD: dict[str, Any] = {"schema": SCHEMA, "model": "m", "ids": [UUID(int=1).hex], "solo": False}


@given(st.text(min_size=1), IDS, st.booleans())
def test_message_through_json_is_the_same(model: str, ids: tuple[UUID, ...], solo: bool) -> None:
    message = JobsMessage(model, ids, solo)
    assert JobsMessage.decode(json.loads(json.dumps(message.encode()))) == message


def test_message_carries_ids_and_nothing_else() -> None:
    assert set(JobsMessage("m", (UUID(int=1),)).encode()) == {"schema", "model", "ids", "solo"}


def test_message_with_more_fields_of_the_same_schema_is_read() -> None:
    assert JobsMessage.decode({**GOOD, "added_later": 1}) == JobsMessage("m", (UUID(int=1),))


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "text",
        {},
        {**GOOD, "schema": 99},
        {**GOOD, "schema": "1"},
        {**GOOD, "model": None},
        {**GOOD, "ids": []},
        {**GOOD, "ids": "abc"},
        {**GOOD, "ids": [None]},
        {**GOOD, "ids": ["not hex"]},
        {**GOOD, "ids": [UUID(int=1).hex] * (MAX_IDS + 1)},
    ],
)
def test_message_of_another_kind_is_unreadable(body: object) -> None:
    with pytest.raises(UnreadableMessage):
        JobsMessage.decode(body)


@given(JSON)
def test_message_any_json_is_read_or_unreadable(body: object) -> None:
    with suppress(UnreadableMessage):
        JobsMessage.decode(body)
