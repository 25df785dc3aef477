"""What the system says about itself: logs, metrics, traces, error reports."""
