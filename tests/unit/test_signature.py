"""Standard Webhooks' signatures, against its published vectors and its own library."""

import base64
import secrets
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from domain.signature import BadSecret, sign, signature_headers
from models.sealing import new_secret

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

VECTORS = [
    ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}', "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    (
        "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
        1674087231,
        '{"type":"contact.created","timestamp":"2022-11-03T20:26:10.344522Z","data":{"id":"1f81eb52-5198-4599-803e-771906343485"}}',
        "v1,ARw42xaAApl/nxRo+iPGYwSaMQaOwMo2eyH5JBRA+bQ=",
    ),
    (
        "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
        1674087231,
        '{"type":"job.succeeded","timestamp":"2026-01-01T00:00:00Z","data":{"id":"job_é"}}',
        "v1,TpJyM59Zo8vJ0hOnmLi4GYLD7w+xPbQ6uFQapUz6/DY=",
    ),
]


@pytest.mark.parametrize(("message_id", "timestamp", "body", "signature"), VECTORS)
def test_signature_is_that_of_the_vector(message_id: str, timestamp: int, body: str, signature: str) -> None:
    assert sign(SECRET, message_id=message_id, timestamp=timestamp, body=body.encode()) == signature


@pytest.mark.parametrize("body", [b"{}", '{"é": "\U0001f600"}'.encode(), b"x" * 100_000])
def test_signature_is_verified_by_the_reference_library(body: bytes) -> None:
    secret = new_secret()
    headers = signature_headers([secret], message_id="evt_1", timestamp=int(datetime.now(UTC).timestamp()), body=body)
    if body.startswith(b"{"):
        Webhook(secret).verify(body, headers)
    assert headers["webhook-signature"] == Webhook(secret).sign("evt_1", datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC), body.decode())


def test_signatures_of_two_secrets_are_verified_by_either_and_by_no_other() -> None:
    old, new = new_secret(), new_secret()
    headers = signature_headers([new, old], message_id="evt_1", timestamp=int(datetime.now(UTC).timestamp()), body=b"{}")
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in (old, new):
        Webhook(secret).verify(b"{}", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(b"{}", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(b"{ }", headers)


def test_secret_without_prefix_or_padding_signs_alike() -> None:
    bare = base64.b64encode(secrets.token_bytes(25)).decode()
    assert bare.endswith("=")
    signatures = {sign(form, message_id="a", timestamp=1, body=b"") for form in (bare, f"whsec_{bare}", bare.rstrip("="))}
    assert len(signatures) == 1


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!!", "whsec_a", "whsec_é"])
def test_secret_that_is_none_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(BadSecret) as refused:
        sign(secret, message_id="a", timestamp=1, body=b"")
    assert "!" not in str(refused.value)
