"""Reads the environment and the catalogue file; errors name the key."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from domain.catalogue import Catalogue, parse_catalogue
from domain.errors import ConfigurationError
from settings.schema import Environment, Settings

_PROJECT = Path(__file__).resolve().parent.parent


def load_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings of this process.

    Args:
        overrides: values that win over the environment (command-line options, tests).

    Raises:
        ConfigurationError: one line for each variable that is wrong.
    """
    try:
        return Settings(**dict(overrides or {}))
    except ValidationError as error:
        lines = [
            f"MILLPOND_{'_'.join(str(part) for part in problem['loc']).upper()}: {problem['msg'].removeprefix('Value error, ')}" for problem in error.errors()
        ]
        raise ConfigurationError("\n".join(lines)) from error


def load_catalogue(settings: Settings) -> Catalogue:
    """The catalogue that the settings name, without what is for development only if this is production.

    A relative path is looked for in the working directory, then beside the project's code.

    Raises:
        ConfigurationError: the file is missing, is not TOML, or an entry of it is wrong.
    """
    path = settings.catalogue
    if not path.is_absolute() and not path.exists():
        path = _PROJECT / path
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"MILLPOND_CATALOGUE: {settings.catalogue} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{settings.catalogue}: {error}") from error
    catalogue = parse_catalogue(document, origin=path.name)
    return catalogue.for_production() if settings.environment is Environment.PRODUCTION else catalogue
