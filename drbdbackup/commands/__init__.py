"""The use cases: each returns values; none prints or asks."""
