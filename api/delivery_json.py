"""A webhook delivery as JSON, from what the database says of it."""

from typing import Any

from domain.ids import Prefix, encode
from models.queries.delivery_history import DeliveryView, TryView


def delivery_json(delivery: DeliveryView, base: str) -> dict[str, Any]:
    """A delivery, without its tries.

    Args:
        delivery: what the database says.
        base: where the API is, without a slash at the end.
    """
    public_id = encode(Prefix.DELIVERY, delivery.id)
    job_id = encode(Prefix.JOB, delivery.job_id) if delivery.job_id else None
    url = f"{base}/v1/webhook-deliveries/{public_id}"
    return {
        "id": public_id,
        "object": "webhook_delivery",
        "event_id": encode(Prefix.EVENT, delivery.event_id),
        "type": delivery.type,
        "endpoint_id": encode(Prefix.ENDPOINT, delivery.endpoint_id),
        "job_id": job_id,
        "url": delivery.url,
        "state": delivery.state,
        "tries": delivery.tries,
        "status_code": delivery.status_code,
        "error": delivery.error,
        "created_at": delivery.created_at,
        "next_try_at": delivery.next_try_at,
        "last_try_at": delivery.last_try_at,
        "finished_at": delivery.finished_at,
        "urls": {"self": url, "redeliver": f"{url}/redeliver", "job": f"{base}/v1/jobs/{job_id}" if job_id else None},
    }


def try_json(delivery_try: TryView) -> dict[str, Any]:
    """One try of a delivery."""
    return {
        "number": delivery_try.number,
        "started_at": delivery_try.started_at,
        "duration_ms": round(delivery_try.duration_ms, 3),
        "status_code": delivery_try.status_code,
        "error": delivery_try.error,
        "detail": delivery_try.detail,
        "answer": delivery_try.answer,
    }
