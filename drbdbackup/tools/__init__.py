"""One file per program: its argv and what its exit statuses mean. Nothing here decides anything."""
