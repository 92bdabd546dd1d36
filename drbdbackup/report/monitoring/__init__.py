"""What monitoring reads: the metrics, the answer of a plugin, and the system log."""
