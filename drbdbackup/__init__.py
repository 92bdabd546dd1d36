"""Backs up the Primary of a DRBD pair, knows the newest backup from either node, and brings it back.

This package holds no code of its own at the top: whoever imports one module must not pay for another.
"""

__version__ = "0.1.0"
