"""All routes: one blueprint a resource, one line each."""

from collections.abc import Sequence

from flask import Blueprint

from api.routes import batches, catalogue, events, feed, jobs, lists, queues, reviews, service, webhook_deliveries, webhook_endpoints

BLUEPRINTS: Sequence[Blueprint] = (
    jobs.blueprint,
    lists.blueprint,
    events.blueprint,
    batches.blueprint,
    catalogue.blueprint,
    queues.blueprint,
    reviews.blueprint,
    webhook_endpoints.blueprint,
    webhook_deliveries.blueprint,
    feed.blueprint,
    service.blueprint,
)
