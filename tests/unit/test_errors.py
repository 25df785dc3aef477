import re
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import MAX_MESSAGE_CHARS, MillpondError, NotFound, clean
from domain.failures import Failure, InferenceError, ModelError, all_errors


def tree(cls: type[MillpondError]) -> list[type[MillpondError]]:
    return [cls, *chain.from_iterable(tree(child) for child in cls.__subclasses__())]


@pytest.mark.parametrize("cls", [cls for cls in tree(MillpondError) if cls.__module__ == "domain.errors"])
def test_error_has_a_code_and_a_default_message(cls: type[MillpondError]) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", cls.code)
    assert cls().message
    assert all_errors()[cls.code].code == cls.code


def test_errors_of_jobs_have_codes_of_their_own() -> None:
    leaves = [cls for cls in tree(MillpondError) if cls.__module__ == "domain.errors" and not cls.__subclasses__()]
    codes = [cls.code for cls in leaves]
    assert len(codes) == len(set(codes))


def test_error_own_message_wins() -> None:
    assert NotFound("no such job").message == str(NotFound("no such job")) == "no such job"


def test_failure_of_an_error_keeps_code_message_and_whether_to_retry() -> None:
    failure = Failure.of(ModelError("broken"))
    assert failure.as_dict() == {"code": "model_error", "message": "broken", "retryable": True}
    assert issubclass(ModelError, InferenceError)


@given(st.text() | st.text(alphabet=st.characters(categories=["Cs"])) | st.text(min_size=3_000))
def test_clean_text_can_be_stored_and_is_short(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert "\x00" not in cleaned
    assert len(cleaned) <= MAX_MESSAGE_CHARS
    assert clean(cleaned) == cleaned
