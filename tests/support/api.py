"""The API inside the test's process: the real application on a real database, with a list in the place of the publisher."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from api.app import create_app
from api.auth import KeyCheck
from api.body import BodyReader
from api.context import ApiContext
from api.in_hand import InHand
from api.signing_secrets import SigningSecrets
from api.submitter import Submitter
from api.watcher import Watcher
from broker.publisher import Published
from domain.catalogue import Catalogue
from domain.keys import Principal, hash_key, hint_of
from domain.routing.facts import COLD, ModelFacts
from models.queries.keys import ensure_first_key, find_key
from models.queries.read import watch
from models.sealing import Sealer, make_sealing_key
from models.transactions import make_engine, statement, unit_of_work
from settings import load_catalogue, load_settings
from storage.objects import ObjectStore, StoreLocation

SEALER = Sealer([make_sealing_key()])


@dataclass(slots=True)
class Flags:
    """What the world around the API is like; a test may change it at any time."""

    broker_is_away: bool = False
    missing_models: set[str] = field(default_factory=set)
    redis_answers: bool = True
    queue_is_full: bool = False
    facts: dict[str, ModelFacts] = field(default_factory=dict)


class Reply(TestResponse):
    """An answer whose JSON may be looked into."""

    json: Any


@dataclass(frozen=True, slots=True)
class Api:
    """The API with a client that holds a key."""

    client: FlaskClient
    engine: Engine
    catalogue: Catalogue
    principal: Principal
    key: str
    published: list[Published]
    flags: Flags
    in_hand: InHand

    def open(self, path: str, **options: Any) -> Reply:
        """Any request, without the key."""
        return cast("Reply", self.client.open(path, **options))

    def get(self, path: str, **headers: str) -> Reply:
        """GET with the key."""
        return self.open(path, headers=self._headers(headers))

    def post(self, path: str, body: object = None, *, data: bytes | None = None, content_type: str | None = None, **headers: str) -> Reply:
        """POST with the key: ``body`` as JSON, or ``data`` as it stands."""
        given: dict[str, Any] = {"json": body} if body is not None else {"data": data, "content_type": content_type}
        return self.open(path, method="POST", headers=self._headers(headers), **given)

    def patch(self, path: str, body: object) -> Reply:
        """PATCH with the key."""
        return self.open(path, method="PATCH", headers=self._headers({}), json=body)

    def delete(self, path: str) -> Reply:
        """DELETE with the key."""
        return self.open(path, method="DELETE", headers=self._headers({}))

    def as_tenant(self, name: str) -> "Api":
        """The same API, called by another tenant."""
        key = f"key-of-{name}"
        return Api(self.client, self.engine, self.catalogue, make_tenant(self.engine, key, name), key, self.published, self.flags, self.in_hand)

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}", **{name.replace("_", "-"): value for name, value in headers.items()}}


def make_tenant(engine: Engine, key: str, name: str) -> Principal:
    """A tenant with a key."""
    with unit_of_work(engine) as connection:
        return ensure_first_key(connection, key_hash=hash_key(key), hint=hint_of(key), tenant_name=name)


def make_api(
    engine: Engine,
    *,
    with_redis: bool = False,
    with_key: bool = True,
    sealer: Sealer | None = SEALER,
    allow_private: bool = False,
    files: ObjectStore | None = None,
    catalogue: Catalogue | None = None,
    files_quota_bytes: int = 10 * 1_073_741_824,
) -> Api:
    """An API with the catalogue of this project unless another is given; without a key, its database need not answer; without a sealer, it has no webhooks."""
    flags, published, key, in_hand = Flags(), list[Published](), "key-of-default", InHand()
    catalogue = catalogue or load_catalogue(load_settings())
    take: Callable[[Sequence[Published]], None] = published.extend

    def find(key_hash: bytes) -> Principal | None:
        with statement(engine) as connection:
            return find_key(connection, key_hash=key_hash)

    def look(ids: Sequence[Any], with_end: bool) -> Sequence[Any]:
        with statement(engine) as connection:
            return watch(connection, ids=ids, with_end=with_end)

    app = create_app(
        ApiContext(
            catalogue=catalogue,
            engine=engine,
            submitter=Submitter(engine=engine, publish=take),
            watcher=Watcher(look=look, most=8),
            key_check=KeyCheck(find),
            publish=take,
            bodies=BodyReader(threads=40, in_hand=in_hand),
            in_hand=in_hand,
            files=files or ObjectStore(StoreLocation(f"memory://{uuid4()}")),
            installed=lambda model: model not in flags.missing_models,
            broker_is_away=lambda: flags.broker_is_away,
            now=lambda: datetime.now(UTC),
            queue_is_full=lambda: flags.queue_is_full,
            facts=lambda model: flags.facts.get(model, COLD),
            redis_answers=(lambda: flags.redis_answers) if with_redis else None,
            secrets=None if sealer is None else SigningSecrets(engine, sealer),
            webhook_allow_private=allow_private,
            fetch_allow_private=allow_private,
            public_url="http://mill.example",
            files_quota_bytes=files_quota_bytes,
        )
    )
    principal = make_tenant(engine, key, "default") if with_key else Principal(UUID(int=0), UUID(int=0))
    return Api(app.test_client(), engine, catalogue, principal, key, published, flags, in_hand)


@contextmanager
def api_on(database_url: str, *, with_redis: bool = False, with_key: bool = True) -> Iterator[Api]:
    """An API on a database, with connections of its own."""
    engine = make_engine(database_url, pool_size=8)
    try:
        yield make_api(engine, with_redis=with_redis, with_key=with_key)
    finally:
        engine.dispose()
