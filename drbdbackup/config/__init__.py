"""The configuration as frozen values; `drbdbackup.config.load` reads them. Nothing here touches more than the file."""
