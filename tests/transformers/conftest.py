"""These tests need torch, which development does not install: ``make test-transformers`` makes an environment of its own and runs them."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") and find_spec("transformers") else ["test_*.py"]
