"""Routing policies, each in a module of its own with a function ``scores``; named by dotted path."""
