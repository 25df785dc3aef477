"""The model store: where weights lie, whether they are there, and how they get there. Nothing of a model is imported."""
