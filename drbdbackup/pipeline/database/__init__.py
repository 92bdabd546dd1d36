"""Databases: dumped, found in a snapshot, loaded, and drilled."""
