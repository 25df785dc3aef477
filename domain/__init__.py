"""Pure rules and contracts: no I/O, no clock; the standard library and pydantic only."""
