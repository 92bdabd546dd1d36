"""A copy brought back, aside or over the live volume."""
