"""All routes: one blueprint a resource, one line each."""

from collections.abc import Sequence

from flask import Blueprint

from api.routes import batches, catalogue, events, feed, files, jobs, lists, queues, service, webhook_deliveries, webhook_endpoints

BLUEPRINTS: Sequence[Blueprint] = (
    jobs.blueprint,
    lists.blueprint,
    events.blueprint,
    batches.blueprint,
    files.blueprint,
    catalogue.blueprint,
    queues.blueprint,
    webhook_endpoints.blueprint,
    webhook_deliveries.blueprint,
    feed.blueprint,
    service.blueprint,
)
