"""The keys of the settings that webhook secrets are sealed with."""

from domain.errors import ConfigurationError
from models.sealing import Sealer
from settings import Settings


def sealer_of(settings: Settings) -> Sealer | None:
    """What seals and opens secrets; None where the settings hold no key.

    Raises:
        ConfigurationError: a key is none; the message does not show it.
    """
    if settings.secret_keys is None:
        return None
    try:
        return Sealer(settings.secret_keys.get_secret_value().split(","))
    except ValueError as error:
        raise ConfigurationError(f"MILLPOND_SECRET_KEYS: {error}") from error
