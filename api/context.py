"""What every request handler works with, built once per process and given to ``create_app``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from flask import current_app
from sqlalchemy import Engine

from api.auth import KeyCheck
from api.body import BodyReader
from api.in_hand import InHand
from api.signing_secrets import SigningSecrets
from api.submitter import Submitter
from api.watcher import Watcher
from broker.publisher import Published
from domain.catalogue import Catalogue
from domain.routing.facts import COLD, ModelFacts
from storage.objects import ObjectStore

EXTENSION = "millpond"


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The catalogue, the database, and the threads of this process.

    Attributes:
        submitter: takes accepted jobs into the database and on to the publisher.
        watcher: tells waiting requests when a job has changed.
        key_check: who a key belongs to.
        publish: offers accepted jobs to the publisher; for those that did not go through the submitter.
        installed: whether a model's weights are there, and its provider's key; asked at every submit, so it must be cheap.
        broker_is_away: what the publisher knows of the broker; nothing waits for the answer.
        now: the wall clock, in UTC.
        queue_is_full: whether as many jobs wait as may; asked at every submit.
        facts: how a model is doing, as far as this process knows; nothing waits for the answer.
        routed: is told which model a job was given.
        bodies: reads the bodies of requests.
        in_hand: is told which requests are.
        redis_answers: asks Redis, within a second; None where none is configured.
        secrets: makes the secrets that sign webhooks; None where the settings hold no key to seal them with.
        webhook_allow_private: whether webhooks may go to private addresses and by `http://`.
        fetch_allow_private: whether inputs may be fetched from private addresses and by `http://`.
        files: the store of files.
        files_retention_s: how long an upload is kept.
        files_quota_bytes: how much one tenant may store.
        public_url: where clients find the API, without a slash at the end; what URLs in events begin with.
    """

    catalogue: Catalogue
    engine: Engine
    submitter: Submitter
    watcher: Watcher
    key_check: KeyCheck
    publish: Callable[[Sequence[Published]], None]
    bodies: BodyReader
    in_hand: InHand
    files: ObjectStore
    installed: Callable[[str], bool]
    broker_is_away: Callable[[], bool]
    now: Callable[[], datetime]
    queue_is_full: Callable[[], bool] = lambda: False
    facts: Callable[[str], ModelFacts] = lambda _model: COLD
    routed: Callable[[str], None] = lambda _model: None
    redis_answers: Callable[[], bool] | None = None
    secrets: SigningSecrets | None = None
    webhook_allow_private: bool = False
    fetch_allow_private: bool = False
    files_retention_s: float = 7 * 86_400.0
    files_quota_bytes: int = 10 * 1_073_741_824
    public_url: str = ""

    def able(self, task: str, parsed: Any) -> list[str]:
        """The installed models of a task that take an input, by its contract; None for one that is wrong, which says nothing of models."""
        models = self.catalogue.models_of_task(task)
        return [name for name, model in models.items() if self.installed(name) and (parsed is None or not model.not_taken(parsed))]

    def quality(self, model: str) -> float | None:
        """How good a model is taken to be, 0 to 1: by feedback as far as this process knows, else by the catalogue; None where neither says anything."""
        known = self.facts(model).quality
        return self.catalogue.models[model].quality if known is None else known


def context() -> ApiContext:
    """The context of the application that serves this request."""
    return cast("ApiContext", current_app.extensions[EXTENSION])
