"""Plain functions, one per named operation: a connection first, keyword-only arguments. The only SQL of the system."""
