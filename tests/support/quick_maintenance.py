"""The maintenance process, ``python -m tests.support.quick_maintenance [duty to leave out …]``.

The same duties as ``millpond maintenance``, with a sweep that takes a message for lost after two seconds in place of fifteen, and
without those that are named: what goes wrong then is what they are for.
"""

import sys

from broker.sender import Sender
from cli.commands.maintenance import duties
from cli.servers import broker_url, database_url
from models.transactions import make_engine
from settings import load_catalogue, load_settings
from telemetry.logs import configure_logging
from workers.maintenance.process import MaintenanceProcess
from workers.maintenance.sweep import Sweep


def main() -> None:
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    catalogue = load_catalogue(settings)
    engine = make_engine(database_url(settings), pool_size=1, application_name="millpond maintenance")
    sender = Sender(broker_url(settings), queue_type=settings.queue_type.value)
    sweep = Sweep(engine, sender, queues=list(catalogue.queues()), every_s=settings.sweep_every_s, apart_s=1.0, base_s=1.0)
    chosen = [duty for duty in duties(settings, catalogue) if duty.name != "sweep"] + [sweep]
    MaintenanceProcess([duty for duty in chosen if duty.name not in sys.argv[1:]]).run()


if __name__ == "__main__":
    main()
