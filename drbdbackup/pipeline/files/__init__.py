"""A tree of files as it is read: by descriptors, with its metadata, compared and hashed."""
