"""Stands for `python -P -m drbdbackup` where another program starts that: what is loaded does it (preloaded.py).

It gives away its streams and its namespaces, passes on the signals that it gets, and ends as the run ends. If it is
killed, so is the run. It imports little: it is started often.
"""

import marshal
import os
import signal
import socket
import sys

PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


def main() -> None:
    _, name, *words = sys.argv
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # the run may be at work before it is known here
    umask = os.umask(0o077)
    os.umask(umask)
    argv = [sys.executable, "-P", "-m", "drbdbackup", *words]
    spaces = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in ("mnt", "uts")] if os.geteuid() == 0 else []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(f"\0{name}")
        asked = marshal.dumps([argv, dict(os.environ), os.getcwd(), umask, [], False])
        socket.send_fds(server, [asked], [0, 1, 2, *spaces])
        pid = number(server)
        for signum in PASSED_ON:
            signal.signal(signum, lambda signum, frame: os.kill(pid, signum))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        status = os.waitstatus_to_exitcode(-1 - number(server)) if pid > 0 else 1
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def number(server: socket.socket) -> int:
    said = server.recv(8)
    return int.from_bytes(said, sys.byteorder, signed=True) if said else -2


main()
