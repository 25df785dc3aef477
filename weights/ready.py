"""Whether a model can run here: its weights lie in the store, and the settings hold its provider's key."""

from collections.abc import Collection
from pathlib import Path

from domain.catalogue import ModelSpec
from weights.store import installed


def lacking(name: str, model: ModelSpec, store_dir: Path, keys: Collection[str]) -> str | None:
    """What a model needs and does not have here, as what to do about it; None where nothing is lacking.

    Args:
        name: of the model.
        model: its entry.
        store_dir: where weights lie.
        keys: names of the providers' keys that there are.
    """
    if not installed(name, model, store_dir):
        return f"run `millpond models pull {name}`"
    if model.provider_key is not None and model.provider_key not in keys:
        return f"put the key {model.provider_key!r} of its provider into MILLPOND_PROVIDER_KEYS"
    return None
