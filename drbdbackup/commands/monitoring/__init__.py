"""What others watch a pair by: checks, metrics, notifications and the report."""
