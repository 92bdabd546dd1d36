"""Looking into copies: find, diff, versions."""
