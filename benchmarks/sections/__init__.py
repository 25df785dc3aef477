"""One module a question, each with a function that measures and gives findings."""
