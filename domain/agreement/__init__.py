"""How far answers of several models to one input agree: one comparator a kind of answer, and the rule that joins them."""
