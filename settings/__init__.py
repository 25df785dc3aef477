"""Typed, frozen settings from the environment; read by entry points alone and passed on as arguments."""

from settings.load import load_catalogue, load_settings
from settings.schema import Environment, QueueType, Settings

__all__ = ["Environment", "QueueType", "Settings", "load_catalogue", "load_settings"]
