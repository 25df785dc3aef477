"""Where the store of files is, by the settings."""

from settings import Settings
from storage.objects import StoreLocation


def store_location(settings: Settings) -> StoreLocation:
    """The URL that was given, or a folder in the state folder."""
    secret = settings.files_s3_secret_key
    return StoreLocation(
        url=settings.files_url or f"file://{settings.state_dir.absolute() / 'files'}",
        endpoint_url=settings.files_s3_endpoint,
        access_key=settings.files_s3_access_key,
        secret_key=secret.get_secret_value() if secret else None,
    )
