"""The newest snapshot fetched to the disk of a node that stands by."""
