"""Checks addresses that webhooks are to go to, before anything is stored. Every try checks again, by what the name then resolves to."""

from api.context import ApiContext
from domain.errors import FieldError, ValidationFailed
from domain.outbound import RefusedUrl, Target, parse_url


def read_webhook_url(text: str, *, context: ApiContext, pointer: str) -> Target:
    """An address, taken apart.

    Args:
        text: as the request has it.
        context: the application's; it says whether private addresses are allowed.
        pointer: where in the body it stands.

    Raises:
        ValidationFailed: webhooks do not go there.
    """
    try:
        return parse_url(text, allow_private=context.webhook_allow_private)
    except RefusedUrl as error:
        raise ValidationFailed(errors=[FieldError(pointer, error.code, str(error))]) from error
