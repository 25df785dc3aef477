"""Requests to addresses that tenants chose: resolved once, judged, connected to the judged address, bounded in time and in bytes."""
