"""Where the store of files is, by the settings."""

from importlib.util import find_spec

from domain.errors import ConfigurationError
from settings import Settings
from storage.objects import StoreLocation


def store_location(settings: Settings) -> StoreLocation:
    """The URL that was given, or a folder in the state folder.

    Raises:
        ConfigurationError: it is a bucket, and what speaks to buckets is not installed.
    """
    if (settings.files_url or "").startswith("s3://") and find_spec("s3fs") is None:
        raise ConfigurationError("MILLPOND_FILES_URL: s3:// needs the extra s3: pip install 'millpond[s3]'")
    secret = settings.files_s3_secret_key
    return StoreLocation(
        url=settings.files_url or f"file://{settings.state_dir.absolute() / 'files'}",
        endpoint_url=settings.files_s3_endpoint,
        access_key=settings.files_s3_access_key,
        secret_key=secret.get_secret_value() if secret else None,
    )
