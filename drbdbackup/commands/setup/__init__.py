"""Sets a pair up: its configuration, what runs it, its keys, and its DRBD."""
