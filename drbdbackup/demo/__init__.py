"""`demo`: a night on a pair, played on this machine without DRBD.

It types the real commands, shows their real output and compares what comes back with what was lost. It works only in a
folder of its own, and nothing of it is left behind.
"""

from drbdbackup.demo.narration import Heading, Printed, Show, Shown, Typed, Words
from drbdbackup.demo.story import demo

__all__ = ["Heading", "Printed", "Show", "Shown", "Typed", "Words", "demo"]
