"""Duties that any number of instances share: relay, sweep, reap, prune."""
