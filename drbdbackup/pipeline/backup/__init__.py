"""One run: everything but the copying itself, which cages do."""
