"""The replicated volume: whether it may be used now, who is notified, and the LVM volume below it."""
