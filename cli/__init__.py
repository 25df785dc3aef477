"""The command `millpond`: one command per process and per operator's task."""
