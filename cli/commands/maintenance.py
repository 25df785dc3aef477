"""`millpond maintenance`: the process that keeps every promise in the end."""

import click

from broker.sender import Sender
from cli.files import store_location
from cli.sealing import sealer_of
from cli.servers import broker_url, database_url
from domain.catalogue import Catalogue
from models.transactions import make_engine
from settings import Settings, load_catalogue, load_settings
from storage.objects import ObjectStore
from telemetry.errors import configure_sentry
from telemetry.logs import configure_logging
from workers.maintenance.batch_completer import BatchCompleter
from workers.maintenance.delivery_reaper import DeliveryReaper
from workers.maintenance.eraser import Eraser
from workers.maintenance.hints import Hints
from workers.maintenance.orphan_canceler import OrphanCanceler
from workers.maintenance.process import Duty, MaintenanceProcess
from workers.maintenance.pruner import Pruner
from workers.maintenance.reaper import Reaper
from workers.maintenance.relay import Relay
from workers.maintenance.resealer import Resealer
from workers.maintenance.shadows import Shadows
from workers.maintenance.sweep import Sweep

MAX_HINTS_EVERY_S = 0.2  # a webhook is on its way at most so long after its event
BATCHES_EVERY_S = 0.5
SHADOWS_EVERY_S = 5.0  # nobody waits for a comparison


@click.command()
def command() -> None:
    """Run every duty that must be done again and again, until told to stop (SIGTERM). Any number may run."""
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    configure_sentry(settings.sentry_dsn.get_secret_value() if settings.sentry_dsn else None, settings.environment.value)
    MaintenanceProcess(duties(settings, load_catalogue(settings))).run()


def duties(settings: Settings, catalogue: Catalogue) -> list[Duty]:
    """All duties, each with a connection of its own to the broker."""
    engine = make_engine(database_url(settings), pool_size=7, application_name="millpond maintenance")  # those that look often have one each; a pass is short

    def sender() -> Sender:
        return Sender(broker_url(settings), queue_type=settings.queue_type.value)

    sealer = sealer_of(settings)
    ids_per_message = {name: model.ids_per_message for name, model in catalogue.models.items()}
    return [
        Relay(engine, sender(), ids_per_message=ids_per_message, every_s=settings.relay_every_s),
        Sweep(engine, sender(), queues=list(catalogue.queues()), every_s=settings.sweep_every_s),
        Reaper(engine, grace_s=settings.lease_grace_s, settle_s=2 * settings.lease_renew_s, every_s=settings.reap_every_s),
        Pruner(engine, every_s=settings.prune_every_s),
        Eraser(engine, ObjectStore(store_location(settings)), every_s=settings.prune_every_s),
        Hints(engine, sender(), every_s=min(settings.relay_every_s, MAX_HINTS_EVERY_S)),
        DeliveryReaper(engine, grace_s=settings.lease_grace_s, every_s=settings.reap_every_s),
        BatchCompleter(engine, every_s=BATCHES_EVERY_S),
        OrphanCanceler(engine, every_s=settings.reap_every_s),
        Shadows(engine, catalogue, every_s=SHADOWS_EVERY_S),
        *([Resealer(engine, sealer, every_s=settings.prune_every_s)] if sealer is not None else []),
    ]
