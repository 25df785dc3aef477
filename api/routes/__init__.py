"""All routes: one blueprint a resource, one line each."""

from collections.abc import Sequence

from flask import Blueprint

from api.routes import (
    batches,
    catalogue,
    events,
    feed,
    feedback,
    files,
    jobs,
    lists,
    model_reports,
    queues,
    reviews,
    service,
    webhook_deliveries,
    webhook_endpoints,
)

BLUEPRINTS: Sequence[Blueprint] = (
    jobs.blueprint,
    feedback.blueprint,
    lists.blueprint,
    events.blueprint,
    batches.blueprint,
    files.blueprint,
    catalogue.blueprint,
    model_reports.blueprint,
    queues.blueprint,
    reviews.blueprint,
    webhook_endpoints.blueprint,
    webhook_deliveries.blueprint,
    feed.blueprint,
    service.blueprint,
)
