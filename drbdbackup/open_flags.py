"""How files are opened that others can exchange: never through a symlink, never waiting, and no child inherits them.

A FIFO in the place of a file would be waited for until somebody writes to it. What is made must be new.
"""

from __future__ import annotations

import os

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC  # to look at it, and not into it
