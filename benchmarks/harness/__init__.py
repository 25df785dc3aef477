"""Starts what is measured, loads it, reads what came of it. Costs little itself: it shares the cores with what it measures."""
