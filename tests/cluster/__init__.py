"""The lab of virtual machines; see lab.py for its use."""
