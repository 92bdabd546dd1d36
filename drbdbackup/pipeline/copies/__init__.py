"""Which copy, the way to it, and the copy opened for reading."""
