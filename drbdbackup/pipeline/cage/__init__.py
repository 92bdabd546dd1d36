"""Cages: a job runs in namespaces of its own, and whoever started it waits with a deadline, or abandons it."""
