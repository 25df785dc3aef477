"""A backend whose runtime misses a library of the system, in the words of the loader."""

raise ImportError("libgomp.so.1: cannot open shared object file: No such file or directory")
