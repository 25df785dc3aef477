"""The HTTP edge: parse, authorise, call, shape the answer."""
