"""The replicated volume: who may use it now, who learns of that, and the LVM volume below it."""
