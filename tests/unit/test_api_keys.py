import pytest

from api.auth import CACHE_KEYS, KeyCheck
from domain.errors import InvalidKey, MissingKey
from domain.keys import Principal, hash_key, hint_of, make_key, may_be_valid
from models.identity import new_id

KEY = make_key(bytes(range(6)), bytes(range(32)))
WHO = Principal(tenant_id=new_id(), key_id=new_id())


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Keys:
    """What a database would say of keys, and how often it was asked."""

    def __init__(self, *known: str) -> None:
        self.known = {hash_key(key) for key in known}
        self.asked = 0

    def __call__(self, key_hash: bytes) -> Principal | None:
        self.asked += 1
        return WHO if key_hash in self.known else None


def test_make_key_has_the_documented_form() -> None:
    prefix, public, secret = KEY.split("_")
    assert (prefix, len(public), len(secret)) == ("mp", 8, 43 + 6)
    assert may_be_valid(KEY)
    assert hint_of(KEY) == KEY[:11]
    assert make_key(b"\xff" * 6, b"\xff" * 32) != KEY


@pytest.mark.parametrize("place", range(len(KEY)))
def test_may_be_valid_one_wrong_character_anywhere_is_seen(place: int) -> None:
    wrong = KEY[:place] + ("x" if KEY[place] != "x" else "y") + KEY[place + 1 :]
    assert not (wrong.startswith("mp_") and may_be_valid(wrong))


@pytest.mark.parametrize("key", ["", "short", "with space in it", "a" * 256, "é" * 20, "tab\tin it", "mp_", "mp_short"])
def test_may_be_valid_malformed_keys_are_not(key: str) -> None:
    assert not may_be_valid(key)


def test_may_be_valid_a_key_from_outside_may_be_any_visible_ascii() -> None:
    assert may_be_valid("8charact")
    assert may_be_valid("!" * 255)
    assert hint_of("secret-of-ours") == "sec…"


@pytest.mark.parametrize(
    "header",
    [
        "Basic abc",
        "Bearer",
        "Bearer ",
        f"Token {KEY}",
        KEY,
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY} {KEY}",
        "Bearer \xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8",
    ],
)
def test_key_check_malformed_is_refused_without_a_look_at_the_database(header: str) -> None:
    keys = Keys(KEY)
    with pytest.raises(InvalidKey):
        KeyCheck(keys)(header)
    assert keys.asked == 0


@pytest.mark.parametrize("header", [None, ""])
def test_key_check_without_a_header_says_so(header: str | None) -> None:
    with pytest.raises(MissingKey):
        KeyCheck(Keys(KEY))(header)


def test_key_check_remembers_a_good_key_for_five_seconds_and_no_longer() -> None:
    clock, keys = Clock(), Keys(KEY)
    check = KeyCheck(keys, clock=clock)
    assert check(f"Bearer {KEY}") == check(f"Bearer {KEY}") == WHO
    assert keys.asked == 1
    assert check(f"bearer  {KEY} ") == WHO
    assert keys.asked == 2
    keys.known.clear()  # revoked
    clock.now_s += 4.9
    assert check(f"Bearer {KEY}") == WHO
    clock.now_s += 0.2
    with pytest.raises(InvalidKey):
        check(f"Bearer {KEY}")
    assert keys.asked == 3


def test_key_check_remembers_a_bad_key_too() -> None:
    keys = Keys()
    check = KeyCheck(keys)
    for _ in range(3):
        with pytest.raises(InvalidKey):
            check(f"Bearer {KEY}")
    assert keys.asked == 1


def test_key_check_memory_is_bounded() -> None:
    check = KeyCheck(Keys())
    for number in range(CACHE_KEYS + 10):
        with pytest.raises(InvalidKey):
            check(f"Bearer unknown-key-{number}")
    assert len(check._known) <= CACHE_KEYS
