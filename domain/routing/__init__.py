"""Choosing a model for a job that leaves the choice to us, and the next one when that model fails. Pure: no clock, no I/O."""
