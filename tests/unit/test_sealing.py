import base64

import pytest

from models.sealing import Sealer, UnknownSealingKey, make_sealing_key, new_secret


def test_seal_and_unseal_give_the_text_again() -> None:
    sealer = Sealer([make_sealing_key()])
    sealed = sealer.seal("whsec_abc")
    assert sealer.unseal(sealed.sealed) == "whsec_abc"
    assert b"whsec" not in sealed.sealed
    assert sealed.key_id == sealer.key_id
    assert sealer.seal("whsec_abc").sealed != sealed.sealed


def test_unseal_with_an_older_key_works_and_seals_with_the_first() -> None:
    old, new = make_sealing_key(), make_sealing_key()
    sealed = Sealer([old]).seal("x")
    both = Sealer([new, old])
    assert both.unseal(sealed.sealed) == "x"
    assert both.key_id == Sealer([new]).key_id != Sealer([old]).key_id
    assert Sealer([new]).unseal(both.seal("x").sealed) == "x"


def test_unseal_without_its_key_or_changed_is_refused() -> None:
    sealed = Sealer([make_sealing_key()]).seal("x")
    with pytest.raises(UnknownSealingKey):
        Sealer([make_sealing_key()]).unseal(sealed.sealed)
    sealer = Sealer([make_sealing_key()])
    changed = bytearray(sealer.seal("x").sealed)
    changed[20] ^= 1
    with pytest.raises(UnknownSealingKey):
        sealer.unseal(bytes(changed))


@pytest.mark.parametrize("keys", [[], ["short"], [make_sealing_key(), "not base64 !"]])
def test_sealer_of_a_bad_key_is_refused_and_the_message_does_not_hold_it(keys: list[str]) -> None:
    with pytest.raises(ValueError, match="sealing key") as refused:
        Sealer(keys)
    assert not any(key in str(refused.value) for key in keys)


def test_key_id_is_eight_hex_characters_and_ignores_blanks_around_the_key() -> None:
    key = make_sealing_key()
    assert Sealer([f" {key} "]).key_id == Sealer([key]).key_id
    assert len(bytes.fromhex(Sealer([key]).key_id)) == 4


def test_new_secret_is_32_random_bytes_in_standard_base64() -> None:
    secret = new_secret()
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    assert new_secret() != secret
