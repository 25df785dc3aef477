"""The weights that tests run on: one folder, kept between runs. Run as a module it fetches those of the whole catalogue."""

import os

from settings import load_catalogue, load_settings
from tests.support.embedded import PROJECT
from weights.pull import pull_models

FOLDER = PROJECT / (os.environ.get("MILLPOND_TEST_MODELS_DIR") or ".millpond/models")


if __name__ == "__main__":
    pull_models(load_catalogue(load_settings({})), FOLDER, report=lambda _: None)
