"""A copy restored, to a folder or over the live volume."""
