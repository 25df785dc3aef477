"""What travels through the broker: ids, and a schema version. Nothing else.

A message is a hint. It may be lost, doubled, late or out of order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

SCHEMA = 1
MAX_IDS = 1_024


class UnreadableMessage(ValueError):
    """The body is not a message of a schema that this process reads; what it spoke of is found again."""


@dataclass(frozen=True, slots=True)
class JobsMessage:
    """Ids of queued jobs of one model.

    Attributes:
        model: the model that every job names.
        ids: 1 to 1,024 job ids.
        solo: the one job inside must run alone, since it was in a batch whose process died.
    """

    model: str
    ids: tuple[UUID, ...]
    solo: bool = False

    def encode(self) -> dict[str, object]:
        """As JSON carries it."""
        return {"schema": SCHEMA, "model": self.model, "ids": [job_id.hex for job_id in self.ids], "solo": self.solo}

    @classmethod
    def decode(cls, body: object) -> "JobsMessage":
        """Reads a message.

        Raises:
            UnreadableMessage: another schema, or not a message at all.
        """
        if not isinstance(body, Mapping) or body.get("schema") != SCHEMA:
            raise UnreadableMessage(f"not a message of schema {SCHEMA}")
        model, ids = body.get("model"), body.get("ids")
        if not isinstance(model, str) or not isinstance(ids, Sequence) or isinstance(ids, str) or not 1 <= len(ids) <= MAX_IDS:
            raise UnreadableMessage("model or ids are missing")
        try:
            return cls(model=model, ids=tuple(UUID(hex=text) for text in ids), solo=body.get("solo") is True)
        except (ValueError, AttributeError, TypeError) as error:
            raise UnreadableMessage("an id is not a UUID") from error


@dataclass(frozen=True, slots=True)
class HintMessage:
    """An endpoint that has deliveries due; which ones, the database says.

    Attributes:
        endpoint_id: of any kind.
    """

    endpoint_id: UUID

    def encode(self) -> dict[str, object]:
        """As JSON carries it."""
        return {"schema": SCHEMA, "endpoint": self.endpoint_id.hex}

    @classmethod
    def decode(cls, body: object) -> "HintMessage":
        """Reads a message.

        Raises:
            UnreadableMessage: another schema, or not a message at all.
        """
        if not isinstance(body, Mapping) or body.get("schema") != SCHEMA:
            raise UnreadableMessage(f"not a message of schema {SCHEMA}")
        endpoint = body.get("endpoint")
        if not isinstance(endpoint, str):
            raise UnreadableMessage("endpoint is missing")
        try:
            return cls(UUID(hex=endpoint))
        except ValueError as error:
            raise UnreadableMessage("endpoint is not a UUID") from error
