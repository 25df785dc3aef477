"""What the settings refuse, and that it is said by the names of the variables."""

import traceback

import pytest

from domain.errors import ConfigurationError
from settings import load_settings


def refusals(monkeypatch: pytest.MonkeyPatch, **environment: object) -> list[str]:
    for name, value in environment.items():
        monkeypatch.setenv(f"MILLPOND_{name.upper()}", str(value))
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    return refused.value.message.splitlines()


@pytest.mark.parametrize(
    ("name", "url", "known"),
    [
        ("database_url", "redis://127.0.0.1:6379/0", "postgresql://"),
        ("database_url", "amqp://127.0.0.1//", "postgresql://"),
        ("broker_url", "postgresql://127.0.0.1/millpond", "amqp://"),
        ("redis_url", "amqp://127.0.0.1//", "redis://"),
        ("redis_url", "postgres://127.0.0.1/millpond", "redis://"),
    ],
)
def test_url_of_another_kind_of_server_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, url: str, known: str) -> None:
    (line,) = refusals(monkeypatch, **{name: url})

    assert line.startswith(f"MILLPOND_{name.upper()}: ")
    assert f"must start with {known}" in line


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("database_url", "postgresql://millpond:secret@127.0.0.1:abc/millpond"),
        ("database_url", "postgresql://millpond:se@cret@127.0.0.1:5432/millpond"),
        ("database_url", "postgresql://millpond:secret@[::1/millpond"),
        ("broker_url", "amqp://guest:secret@127.0.0.1:70000//"),
        ("broker_url", "amqp://guest:secret/part@127.0.0.1:5672//"),
        ("broker_url", "amqp://guest:secret@127.0.0.1:5672//;amqp://guest:secret@127.0.0.2:abc//"),
        ("redis_url", "redis://:secret@127.0.0.1:0/1"),
    ],
)
def test_url_whose_address_cannot_be_read_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch, name: str, url: str) -> None:
    monkeypatch.setenv(f"MILLPOND_{name.upper()}", url)
    with pytest.raises(ConfigurationError) as refused:
        load_settings()

    (line,) = refused.value.message.splitlines()
    assert line.startswith(f"MILLPOND_{name.upper()}: its host or port")
    assert "cret" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("database_url", "postgresql:///millpond?host=/run/postgresql"),
        ("database_url", "postgresql://millpond:a%2Fb%40c@[::1]:5432/millpond"),
        ("database_url", "postgresql://millpond:a/b?c#d[e]@127.0.0.1:5432/millpond"),
        ("broker_url", "amqp://guest:guest@127.0.0.1:5672;amqp://guest:guest@127.0.0.2:5672;127.0.0.3"),
        ("database_url", "postgresql://millpond@server:secret@127.0.0.1/millpond"),
        ("redis_url", "redis://:a;b@127.0.0.1:6379/1"),
        ("broker_url", "amqp://guest:g@est@127.0.0.1:5672//"),
    ],
)
def test_url_as_its_driver_takes_it_is_taken(name: str, url: str) -> None:
    assert getattr(load_settings({name: url}), name).get_secret_value() == url


@pytest.mark.parametrize(
    ("name", "schemes"),
    [
        ("database_url", ("postgresql", "postgresql+psycopg2", "postgres")),
        ("broker_url", ("amqp", "amqps", "redis", "rediss")),
        ("redis_url", ("redis", "rediss")),
    ],
)
def test_url_of_every_kind_that_is_supported_is_taken(name: str, schemes: tuple[str, ...]) -> None:
    for scheme in schemes:
        assert getattr(load_settings({name: f"{scheme}://127.0.0.1/1"}), name).get_secret_value() == f"{scheme}://127.0.0.1/1"


@pytest.mark.parametrize("given", [{"lease_renew_s": 60}, {"lease_s": 10}, {"lease_s": 8, "lease_renew_s": 4}], ids=str)
def test_renewals_too_rare_for_the_lease_are_refused(monkeypatch: pytest.MonkeyPatch, given: dict[str, float]) -> None:
    (line,) = refusals(monkeypatch, **{"cancel_kill_s": 0.1, **given})

    assert line.startswith("MILLPOND_LEASE_RENEW_S: ")
    assert "less than half of MILLPOND_LEASE_S" in line


@pytest.mark.parametrize("given", [{"cancel_kill_s": 60}, {"lease_renew_s": 6}, {"lease_renew_s": 9.5, "cancel_kill_s": 0.5}], ids=str)
def test_cancel_that_would_take_too_long_is_refused(monkeypatch: pytest.MonkeyPatch, given: dict[str, float]) -> None:
    (line,) = refusals(monkeypatch, **given)

    assert line.startswith("MILLPOND_CANCEL_KILL_S: ")
    assert "MILLPOND_LEASE_RENEW_S" in line


def test_lease_that_is_wrong_by_itself_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = refusals(monkeypatch, lease_s=-1)

    assert line.startswith("MILLPOND_LEASE_S: ")
