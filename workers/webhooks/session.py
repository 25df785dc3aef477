"""A session of sending: one thread serves one endpoint until nothing is due, its turn is over, or a try fails.

Between two tries the database knows what is held; a thread that dies in between leaves a lease, and the reaper makes what it held due again. So a
receiver may get an event twice, under the same ``webhook-id``, and never not at all.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

import structlog
from sqlalchemy import Engine

from domain.delivery import GONE, LIMITS, Limits, Standing, TryError, error_of, judge, parse_retry_after
from domain.ids import Prefix, encode
from domain.outbound import RefusedUrl, Target, parse_url
from domain.signature import BadSecret, signature_headers
from domain.trace import continued
from models.event_body import ensure_bodies
from models.queries.deliveries import Claim, ClaimedDelivery, Try, claim_deliveries, give_back, record_tries, renew_deliveries, unhint
from models.queries.secrets import SealedSecret, secrets_of
from models.sealing import Sealer, UnknownSealingKey
from models.transactions import DatabaseAway, LockedRow, unit_of_work
from workers.outbound.client import Answer, Line, OutboundClient, RequestFailed

log = structlog.get_logger(__name__)

LEASE_S = 45.0
RENEW_UNDER = 20 / 45  # of the lease is left: over the 15 s that a try may take
TURN_S = 2.0  # then other endpoints of the lane have theirs
TURN_DELIVERIES = 1_024
CLAIM_S = 0.5  # of work are claimed at once, by how fast the last ones went
CLAIM_MOST = 128
SHOWN_ANSWER_BYTES = 1_024
RECORD_AGAIN_S = (0.1, 0.5, 2.0, 5.0)  # pauses while the database is away and tries are to be written down; the lease outlasts them
USER_AGENT = "Millpond-Webhooks/1"


@dataclass(frozen=True, slots=True)
class Sending:
    """What all sessions of a process share.

    Attributes:
        engine: the database.
        clients: by lane, each with a resolver of its own: names that do not resolve hold up their own lane alone.
        sealer: opens signing secrets.
        base_url: where the API is; URLs in bodies begin with it.
        stopping: set when the process shall end: what is being sent is the last.
        lease_s: how long a claim holds without renewal.
        turn_s: how long a session serves one endpoint.
        limits: by lane.
        dice: uniform in [0, 1); spreads tries.
    """

    engine: Engine
    clients: dict[Standing, OutboundClient]
    sealer: Sealer
    base_url: str
    stopping: threading.Event
    lease_s: float = LEASE_S
    turn_s: float = TURN_S
    limits: dict[Standing, Limits] | None = None
    dice: Callable[[], float] = random.random


@dataclass(slots=True)
class Sent:
    """What a session did.

    Attributes:
        tries: requests that were made, and what took their place.
        delivered: of them, those that the receiver took.
    """

    tries: int = 0
    delivered: int = 0


class Session:
    """Serves one endpoint once.

    Args:
        sending: what sessions share.
        endpoint_id: whose deliveries.
        lane: the standing that the hint spoke of; the database knows better by now, and decides.
        owner: a name that no other session has.
        others_wait: whether the thread is wanted elsewhere, asked when the turn is over; if not, another one begins.
    """

    def __init__(self, sending: Sending, *, endpoint_id: UUID, lane: Standing, owner: str, others_wait: Callable[[], bool] = lambda: True) -> None:
        self._sending = sending
        self._endpoint_id = endpoint_id
        self._client = sending.clients[lane]
        self._limits = (sending.limits or LIMITS)[lane]
        self._owner = owner
        self._others_wait = others_wait
        self._lease_until = 0.0
        self._held: set[UUID] = set()
        self._many = self._limits.many
        self._targets: dict[str, Target] = {}

    def run(self) -> Sent:
        """Claims, sends and records, again and again.

        Raises:
            DatabaseAway, LockedRow: what could not be recorded is sent again when its lease has ended.
            UnknownSealingKey: no key of the settings opens the endpoint's secret; nothing was sent, and nothing is held.
        """
        sent = Sent()
        turn_ends, turn_most = time.monotonic() + self._sending.turn_s, TURN_DELIVERIES
        claim = self._record_and_claim([], go_on=True)
        with self._client.line() as line:
            while claim.deliveries:
                since = time.monotonic()
                tries, rest = self._send_all(claim.deliveries, line)
                per_s = len(tries) / max(1e-3, time.monotonic() - since)
                self._many = int(min(CLAIM_MOST, max(self._limits.many, per_s * CLAIM_S)))
                sent.tries += len(tries)
                sent.delivered += sum(one.error is None for one in tries)
                failed = any(one.error is not None for one in tries)
                go_on = not (failed or rest or self._sending.stopping.is_set())
                if go_on and (time.monotonic() >= turn_ends or sent.tries >= turn_most):
                    go_on = not self._others_wait()
                    turn_ends, turn_most = time.monotonic() + self._sending.turn_s, sent.tries + TURN_DELIVERIES
                claim = self._record_and_claim(tries, give_back_too=rest, go_on=go_on)
        return sent

    def _record_and_claim(self, tries: Sequence[Try], *, give_back_too: Sequence[ClaimedDelivery] = (), go_on: bool) -> Claim:
        """Writes down what was done and takes what comes next, in one transaction; tries again while the database is away."""
        for pause_s in RECORD_AGAIN_S if tries else ():
            try:
                return self._record_and_claim_once(tries, give_back_too, go_on=go_on)
            except (DatabaseAway, LockedRow) as error:
                log.warning("tries could not be recorded; trying again", endpoint=str(self._endpoint_id), tries=len(tries), error=str(error)[:200])
                self._sending.stopping.wait(pause_s)
        return self._record_and_claim_once(tries, give_back_too, go_on=go_on)

    def _record_and_claim_once(self, tries: Sequence[Try], rest: Sequence[ClaimedDelivery], *, go_on: bool) -> Claim:
        since = time.monotonic()
        with unit_of_work(self._sending.engine) as connection:
            if tries:
                recorded = record_tries(connection, owner=self._owner, tries=tries)
                if len(recorded) < len(tries):
                    log.warning("tries were not recorded: their lease had ended", endpoint=str(self._endpoint_id), tries=len(tries) - len(recorded))
            if rest:
                give_back(connection, deliveries=rest)
            if not go_on:
                unhint(connection, endpoint_ids=[self._endpoint_id])
                return Claim([])
            limits = replace(self._limits, many=self._many)
            claim = claim_deliveries(connection, endpoint_id=self._endpoint_id, owner=self._owner, lease_s=self._sending.lease_s, limits=limits)
        self._lease_until = since + self._sending.lease_s
        self._held = {delivery.id for delivery in claim.deliveries}
        return claim

    def _send_all(self, deliveries: Sequence[ClaimedDelivery], line: Line) -> tuple[list[Try], Sequence[ClaimedDelivery]]:
        """Sends one after the other, up to the first failure; what was done, and what was not."""
        try:
            bodies, secrets = self._bodies_and_secrets(deliveries)
        except UnknownSealingKey:
            log.exception("no key of MILLPOND_SECRET_KEYS opens this endpoint's secret", endpoint=str(self._endpoint_id))
            with unit_of_work(self._sending.engine) as connection:
                give_back(connection, deliveries=deliveries)
            raise
        tries: list[Try] = []
        for place, delivery in enumerate(deliveries):
            if self._sending.stopping.is_set():
                return tries, deliveries[place:]
            try:
                self._renew()
            except (DatabaseAway, LockedRow) as error:
                log.warning("a lease was not renewed; what was done is recorded first", endpoint=str(self._endpoint_id), error=str(error)[:200])
                return tries, deliveries[place:]
            if delivery.id not in self._held:
                continue
            tries.append(self._try(delivery, bodies.get(delivery.event_id), secrets, line))
            if tries[-1].error is not None:
                return tries, deliveries[place + 1 :]
        return tries, ()

    def _bodies_and_secrets(self, deliveries: Sequence[ClaimedDelivery]) -> tuple[dict[UUID, bytes], list[str]]:
        bodies = {delivery.event_id: delivery.body for delivery in deliveries if delivery.body is not None}
        missing = [delivery.event_id for delivery in deliveries if delivery.body is None]
        first = deliveries[0]
        owner_id = first.endpoint_id if first.endpoint_kind == "registered" else None
        with unit_of_work(self._sending.engine) as connection:
            if missing:
                bodies |= ensure_bodies(connection, event_ids=missing, base_url=self._sending.base_url)
            sealed = secrets_of(connection, tenant_id=first.tenant_id, endpoint_id=owner_id)
        return bodies, list(self._opened(sealed))

    def _opened(self, sealed: Sequence[SealedSecret]) -> Iterator[str]:
        """The newest secret, and of those that it replaced what can be opened.

        Raises:
            UnknownSealingKey: the newest cannot.
        """
        for place, secret in enumerate(sealed):
            try:
                yield self._sending.sealer.unseal(secret.sealed)
            except UnknownSealingKey:
                if place == 0:
                    raise
                log.warning("a secret that was replaced cannot be opened; it signs no more", endpoint=str(self._endpoint_id))

    def _renew(self) -> None:
        """Makes sure that what is held stays so for longer than a try takes."""
        if self._lease_until - time.monotonic() >= RENEW_UNDER * self._sending.lease_s:
            return
        since = time.monotonic()
        with unit_of_work(self._sending.engine) as connection:
            self._held &= renew_deliveries(connection, owner=self._owner, lease_s=self._sending.lease_s)
        self._lease_until = since + self._sending.lease_s

    def _try(self, delivery: ClaimedDelivery, body: bytes | None, secrets: Sequence[str], line: Line) -> Try:
        started_at = datetime.now(UTC)
        since = time.monotonic()
        answer: Answer | None = None
        detail: str | None = None
        error: TryError | None
        try:
            if body is None:
                error, detail = TryError.EVENT_GONE, "the event is past its retention"
            else:
                answer = self._post(delivery, body, secrets, line, started_at)
                error = error_of(answer.status_code)
        except RequestFailed as failure:
            error, detail = failure.error, str(failure)
        except RefusedUrl as refused:
            error, detail = TryError.URL_REFUSED, str(refused)
        except BadSecret as bad:
            error, detail = TryError.SECRET_MISSING, str(bad)
        if error is TryError.REDIRECT_REFUSED and answer is not None:
            detail = "redirects are not followed; give the address that they lead to"
        retry_after_s = None if answer is None else parse_retry_after(answer.headers.get("retry-after"), now=datetime.now(UTC))
        return Try(
            delivery_id=delivery.id,
            fence=delivery.fence,
            started_at=started_at,
            duration_ms=(time.monotonic() - since) * 1_000,
            status_code=None if answer is None else answer.status_code,
            error=error,
            detail=detail,
            answer=None if answer is None else printable(answer.body[:SHOWN_ANSWER_BYTES]),
            verdict=judge(error, step=delivery.schedule_step, dice=self._sending.dice(), retry_after_s=retry_after_s),
            disables="gone" if answer is not None and answer.status_code == GONE else None,
        )

    def _post(self, delivery: ClaimedDelivery, body: bytes, secrets: Sequence[str], line: Line, now: datetime) -> Answer:
        if not secrets:
            raise BadSecret("there is no secret to sign with")
        target = self._targets.get(delivery.url)
        if target is None:  # again in every session: what is allowed may have changed since it was registered
            target = self._targets[delivery.url] = parse_url(delivery.url, allow_private=self._client.allow_private)
        signed = signature_headers(secrets, message_id=encode(Prefix.EVENT, delivery.event_id), timestamp=int(now.timestamp()), body=body)
        headers = {"content-type": "application/json", "user-agent": USER_AGENT, **signed, **continued(delivery.traceparent, os.urandom(8))}
        return line.request("POST", target, headers=headers, body=body)


def printable(body: bytes) -> str:
    """Text that a database and a person can take: UTF-8 with marks where it is none, control characters as spaces."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in body.decode(errors="replace"))
