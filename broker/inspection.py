"""What kind of broker this is, for those who check an installation."""

from dataclasses import dataclass

from kombu.exceptions import OperationalError

from broker.sender import BrokerAway
from broker.topology import CONNECT_TIMEOUT_S, connect, is_amqp

DEFAULT_CONSUMER_TIMEOUT_MS = 1_800_000  # RabbitMQ 3.8.17 and later, unless its configuration says otherwise


@dataclass(frozen=True, slots=True)
class BrokerKind:
    """The server that answered.

    Attributes:
        product: ``RabbitMQ``, or what the URL says.
        version: as the server says it; empty where the protocol does not say.
    """

    product: str
    version: str

    def has_consumer_timeout(self, queue_type: str) -> bool:
        """Whether RabbitMQ bounds how long a message stays unacknowledged; it does not for classic queues since 4.3."""
        numbers = tuple(int(part) for part in self.version.split(".")[:2] if part.isdigit())
        return numbers < (4, 3) or queue_type != "classic"


def inspect_broker(broker_url: str) -> BrokerKind:
    """Connects and asks.

    Raises:
        BrokerAway: nobody answers, or the URL's user may not enter.
    """
    connection = connect(broker_url)
    try:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0.2, timeout=CONNECT_TIMEOUT_S)
        if not is_amqp(broker_url):
            return BrokerKind("Valkey/Redis", "")
        said = connection.connection.server_properties
        return BrokerKind(str(said.get("product", "AMQP")), str(said.get("version", "")))
    except (*connection.connection_errors, *connection.channel_errors, OperationalError, OSError) as error:
        raise BrokerAway(f"{type(error).__name__}: {error}") from error
    finally:
        connection.release()
