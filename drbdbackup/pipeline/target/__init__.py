"""A target: opened, inspected, and rid of snapshots."""
