"""Persisted state: records, and the only SQL of the system; code that runs a model is a backend, in ``workers/backends``."""
