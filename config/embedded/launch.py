"""Becomes a server: gives up root, ties its life to the supervisor's, then executes the server's program.

A script of its own because the order matters and because nothing else is safe: a change of user clears the
death signal, and Python code between fork and exec of a process with threads may lock up for good. It does
what `setpriv --reuid --regid --clear-groups --pdeathsig INT` does, also where there is no such setpriv, and
it closes the gap in which the supervisor dies before the signal is set.

Arguments: the supervisor's pid, uid, gid, the signal that ends the program cleanly, program, the program's arguments.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)
PR_SET_NO_NEW_PRIVS = 38


def main(supervisor: int, uid: int, gid: int, stop: int, program: list[str]) -> None:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # The kernel may send it once for each thread of a dying supervisor, so it must bear being repeated.
    if prctl(PR_SET_PDEATHSIG, stop, 0, 0, 0):
        sys.exit("cannot tie the server's life to the supervisor's: prctl refused")
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(stop, signal.SIG_DFL)
    os.umask(0o077)
    if os.getppid() != supervisor:
        sys.exit("the supervisor died while this server was being started")
    os.execv(program[0], program)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]), sys.argv[5:])
