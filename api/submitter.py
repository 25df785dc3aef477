"""Group submit: jobs that are submitted at the same moment share one statement and one commit.

A thread that finds nobody submitting leads: it writes what waits, its own job among it, and hands the lead to the first that
came meanwhile. Alone, a job goes at once; under load a commit carries up to 64. No thread of its own, no window to tune.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from broker.publisher import Published
from domain.catalogue import QueueName
from domain.errors import IdempotencyInProgress
from domain.job import Priority
from models.queries.submit import Accepted, NewJob, Outcome, forget_stale, originals, submit_jobs
from models.transactions import DatabaseAway, LockedRow, statement

GROUP_JOBS = 64
IN_PROGRESS_RETRY_S = 1.0
TRIES = 2  # after a stale key was forgotten, someone else may use it first


class Submitter:
    """Takes new jobs, one caller at a time in each thread, and offers the accepted ones to the publisher."""

    def __init__(self, *, engine: Engine, publish: Callable[[Sequence[Published]], None]) -> None:
        self._engine = engine
        self._publish = publish
        self._lock = threading.Lock()
        self._waiting: deque[_Ticket] = deque()  # empty while nobody leads
        self._led = False

    def submit(self, job: NewJob) -> Outcome:
        """Writes a job; returns when it is committed.

        Raises:
            IdempotencyInProgress: another transaction has held this job's key for over two seconds.
            DatabaseAway: it is not known whether the job was written.
        """
        ticket = _Ticket(job)
        with self._lock:
            if self._led:
                self._waiting.append(ticket)
            else:
                self._led = ticket.leads = True
        if not ticket.leads:
            ticket.called.acquire()
        if ticket.leads:
            self._lead(ticket)
        if isinstance(ticket.outcome, BaseException):
            raise ticket.outcome
        return ticket.outcome

    def _lead(self, leader: "_Ticket") -> None:
        with self._lock:
            followers = [self._waiting.popleft() for _ in range(min(len(self._waiting), GROUP_JOBS - 1))]
        group = [leader, *followers]
        try:
            self._write(group)
        except BaseException as error:
            for ticket in group:
                ticket.outcome = error
            raise
        finally:
            self._hand_over(leader, followers)

    def _hand_over(self, leader: "_Ticket", followers: list["_Ticket"]) -> None:
        group = [leader, *followers]
        with self._lock:
            if isinstance(leader.outcome, DatabaseAway):  # the others would wait for nothing, one group after the other
                for ticket in self._waiting:
                    ticket.outcome = leader.outcome
                followers.extend(self._waiting)
                self._waiting.clear()
            if self._waiting:
                successor = self._waiting.popleft()
                successor.leads = True
                successor.called.release()
            else:
                self._led = False
        try:
            accepted = [due for ticket in group if isinstance(ticket.outcome, Accepted) for due in due_jobs(ticket.job, ticket.outcome)]
            if accepted:
                self._publish(accepted)
        finally:
            for ticket in followers:
                ticket.called.release()

    def _write(self, group: Sequence["_Ticket"]) -> None:
        try:
            with statement(self._engine) as connection:
                written = submit_jobs(connection, jobs=[ticket.job for ticket in group])
        except DatabaseAway as error:
            for ticket in group:
                ticket.outcome = error
        except (LockedRow, DBAPIError) as error:
            self._write_apart(group, error)
        else:
            losers = []
            for ticket, accepted in zip(group, written, strict=True):
                if accepted is None:
                    losers.append(ticket)
                else:
                    ticket.outcome = accepted
            if losers:
                self._look_up(losers)

    def _write_apart(self, group: Sequence["_Ticket"], error: Exception) -> None:
        """Nothing of a group was written: finds the job to blame, so that the others do not suffer for it."""
        if len(group) == 1:
            locked = isinstance(error, LockedRow) and group[0].job.idempotency is not None
            group[0].outcome = IdempotencyInProgress(retry_after_s=IN_PROGRESS_RETRY_S) if locked else error
            return
        for ticket in group:
            self._write([ticket])

    def _look_up(self, losers: Sequence["_Ticket"]) -> None:
        """Finds out what the keys of unwritten jobs made before; a key over 24 hours old is forgotten and used anew."""
        try:
            with statement(self._engine) as connection:
                found = originals(connection, jobs=[ticket.job for ticket in losers])
        except (DatabaseAway, LockedRow, DBAPIError) as error:
            for ticket in losers:
                ticket.outcome = error
            return
        for ticket, original in zip(losers, found, strict=True):
            if original is not None:
                ticket.outcome = original
            elif ticket.tries < TRIES:
                ticket.tries += 1
                self._forget_and_write(ticket)
            else:
                ticket.outcome = IdempotencyInProgress(retry_after_s=IN_PROGRESS_RETRY_S)

    def _forget_and_write(self, ticket: "_Ticket") -> None:
        try:
            with statement(self._engine) as connection:
                forget_stale(connection, job=ticket.job)
        except (DatabaseAway, LockedRow, DBAPIError) as error:
            ticket.outcome = error
        else:
            self._write([ticket])


class _Ticket:
    """One job that waits to be written, and the thread that waits for it."""

    __slots__ = ("called", "job", "leads", "outcome", "tries")

    def __init__(self, job: NewJob) -> None:
        self.job = job
        self.outcome: Outcome | BaseException = DatabaseAway("the job was not written")
        self.leads = False
        self.tries = 0
        self.called = threading.Lock()
        self.called.acquire()


def due_jobs(job: NewJob, accepted: Accepted) -> Iterator[Published]:
    """What of a job that was written, itself and its children, may run now, as the publisher needs to know it."""
    if job.not_before is not None and job.not_before > accepted.created_at:
        return
    for each in (job, *job.children):
        if each.pending_children is None:
            yield Published(QueueName(each.pool, Priority(each.priority)), each.model, each.id)
