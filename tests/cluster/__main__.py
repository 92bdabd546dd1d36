"""`make cluster-shell`: boots the pair, leaves a developer in a shell on www4, and takes everything down at exit."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from tests.cluster import host, image, pair
from tests.cluster.lab import Lab

STAY = """
The pair is up: www4 is Primary, it is eight minutes past noon there. From another terminal:

{ways}

This is www4. Leaving it takes all three machines down.
"""


def main() -> int:
    began = time.monotonic()
    try:
        host.must_do()
        with Lab() as lab:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            print("Booting and setting up the pair; this takes about two minutes ...", file=sys.stderr)
            try:
                pair.prepare(lab)
                pair.start_heartbeat(lab)
            except BaseException:
                print(lab.tails(), file=sys.stderr)
                raise
            print(f"Set up in {time.monotonic() - began:.0f} s.", file=sys.stderr)
            ways = "\n".join(f"{node.name}: {' '.join(node.ssh())}" for node in lab.nodes)
            print(STAY.format(ways=ways))
            return subprocess.run([*lab.www4.ssh_options(), "-t", "root@127.0.0.1"], check=False).returncode
    except (host.HostLacks, image.CannotBuild) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
