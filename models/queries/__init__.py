"""Plain functions, one per named operation: ``Session`` first, keyword-only arguments. The only SQL of the system."""
