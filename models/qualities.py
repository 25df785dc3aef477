"""How good each model is, for whoever has to know: the catalogue's figure, corrected by what tenants said of its outputs."""

import time
from collections.abc import Callable, Mapping

import structlog
from sqlalchemy import Engine

from domain.catalogue import Catalogue
from models.queries.feedback import quality_by_model
from models.remembered import Remembered
from models.transactions import DatabaseAway, LockedRow, statement

log = structlog.get_logger(__name__)

EVERY_S = 30.0  # it changes slowly, and reads a row for each model, tenant and day with feedback: 0.2 s for 160,000


class Qualities:
    """Looks when asked, if the last look is older than ``every_s``; while the database is away what was known stands, at first the catalogue.

    A look that fails is not repeated sooner: its caller has a look of its own to take, and one that waits for a lost database is enough.

    Args:
        engine: the database.
        catalogue: whose models are judged.
        every_s: how often at what feedback says.
        clock: seconds, monotonic.
    """

    def __init__(self, engine: Engine, catalogue: Catalogue, *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._stated = {name: model.quality for name, model in catalogue.models.items()}
        self._known: Mapping[str, float | None] = self._stated
        self._away = False
        self._remembered = Remembered(self._look, ttl_s=every_s, clock=clock)

    def __call__(self) -> Mapping[str, float | None]:
        """The quality of every model of the catalogue, 0 to 1; None where neither it nor feedback says anything."""
        return self._remembered()

    def _look(self) -> Mapping[str, float | None]:
        try:
            with statement(self._engine) as connection:
                self._known = {**self._stated, **quality_by_model(connection, priors=self._stated)}
            self._away = False
        except (DatabaseAway, LockedRow) as error:
            if not self._away:
                log.warning("how good models are is as it was known before", error=str(error))
            self._away = True
        return self._known
