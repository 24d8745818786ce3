"""Runs `udfa-train` as several processes of one computer, as torchrun starts them.

    python processes.py COUNT FOLDER udfa-train's arguments ...

torch and MONAI are imported once, before the processes part: with so little to train, imports would take most of the
time. Process i writes what it prints to FOLDER/i.txt. The exit code is the largest of theirs.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

LONGEST_SECONDS = 300
"""A process that waits for another one in vain ends after this time."""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def environment(rank: int, count: int, port: int) -> dict[str, str]:
    """Return what torchrun tells a process."""
    values = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "GROUP_RANK": 0}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "tests"}
    return {name: str(value) for name, value in {**values, **address}.items()}


def run_process(rank: int, count: int, port: int, folder: Path) -> int:
    """Run the command line as one of the processes; returns its exit code."""
    from udfa_training.cli import main

    signal.alarm(LONGEST_SECONDS)
    os.environ.update(environment(rank, count, port))
    with (folder / f"{rank}.txt").open("w") as file, redirect_stdout(file), redirect_stderr(sys.__stderr__):
        return main(sys.argv[3:])


def run_all(count: int, folder: Path) -> int:
    """Run all processes; returns the largest exit code."""
    import udfa_training.fit  # noqa: F401  (so that no process imports it again)

    port = free_port()
    children = []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = run_process(rank, count, port, folder)
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF for child in children)


if __name__ == "__main__":
    sys.exit(run_all(int(sys.argv[1]), Path(sys.argv[2])))
