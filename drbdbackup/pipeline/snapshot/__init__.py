"""One snapshot on one target, made inside a cage."""
