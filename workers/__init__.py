"""Processes: the Celery app, batching, execution of an attempt, leases, backends, maintenance."""
