"""What this project is measured by: the peers, the harness, one section a question. `make bench` runs it."""
