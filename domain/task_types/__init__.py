"""One file a task type: ``Input``, ``Output``, ``EXAMPLES``. Named in ``catalogue.toml``, never imported by name."""
