"""`demo`: a night on a pair, played on this machine without DRBD.

It types the real commands, shows their real output and compares what comes back with what was lost. It works only in a
folder of its own, and nothing of it is left behind.
"""

from drbdbackup.commands.demo.story import demo
from drbdbackup.commands.demo.told import Heading, Printed, Tell, Told, Typed, Words

__all__ = ["Heading", "Printed", "Tell", "Told", "Typed", "Words", "demo"]
