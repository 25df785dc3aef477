"""Compares what candidates answered in the shadow of jobs with what the jobs' own models did."""

from dataclasses import dataclass

from sqlalchemy import Engine

from domain.agreement.pair import agreement_of
from domain.catalogue import Catalogue
from models.queries.shadows import EndedShadow, ended_shadows, keep_comparisons
from models.transactions import statement

COMPARE_JOBS = 20  # whose inputs and outputs, 8 MiB each at most, are in memory at once


@dataclass(frozen=True, slots=True)
class Compared:
    """What one pass did.

    Attributes:
        shadows: that were compared, or could not be, and are gone.
        more: whether there is probably more to do at once.
    """

    shadows: int = 0
    more: bool = False


class Shadows:
    """Looks for shadows that have ended, as their jobs have. Any number may run: a comparison is written once.

    A crash in the middle loses nothing: a shadow is there until what came of it is written, in the same statement. Texts are compared by their
    words, since no model runs here.

    Args:
        engine: the database.
        catalogue: how outputs of a task are compared.
        every_s: how often to look.
    """

    name = "shadows"

    def __init__(self, engine: Engine, catalogue: Catalogue, *, every_s: float) -> None:
        self.every_s = every_s
        self._engine = engine
        self._catalogue = catalogue

    def stop(self) -> None:
        """A pass is short; nothing to end."""

    def close(self) -> None:
        """Holds nothing of its own."""

    def run_once(self) -> Compared:
        """One pass: at most 20 shadows; no transaction is open while they are compared.

        Raises:
            DatabaseAway, LockedRow: the next pass tries again.
        """
        with statement(self._engine) as connection:
            ended = ended_shadows(connection, limit=COMPARE_JOBS)
        if not ended:
            return Compared()
        agreements = [(shadow.id, self._agreement(shadow)) for shadow in ended]
        with statement(self._engine) as connection:
            gone = keep_comparisons(connection, agreements=agreements)
        return Compared(gone, more=len(ended) == COMPARE_JOBS)

    def _agreement(self, shadow: EndedShadow) -> float | None:
        contract = self._catalogue.contracts.get(shadow.task)
        if contract is None or shadow.input_json is None or shadow.output_json is None or shadow.primary_output_json is None:
            return None
        return agreement_of(contract, input_json=shadow.input_json, output_json=shadow.output_json, other_json=shadow.primary_output_json)
