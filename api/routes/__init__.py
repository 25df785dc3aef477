"""All routes: one blueprint a resource, one line each."""

from collections.abc import Sequence

from flask import Blueprint

from api.routes import batches, catalogue, events, jobs, lists, queues, service

BLUEPRINTS: Sequence[Blueprint] = (
    jobs.blueprint,
    lists.blueprint,
    events.blueprint,
    batches.blueprint,
    catalogue.blueprint,
    queues.blueprint,
    service.blueprint,
)
