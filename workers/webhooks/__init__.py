"""The process that sends webhooks: a Celery worker of threads, whose messages are hints about endpoints."""
