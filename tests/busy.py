"""A busy machine, made to order: `python tests/busy.py [--load 6] [--torch] -- command ...`.

Keeps `load` processes computing beside a command and ends with its exit status; without a command it
goes on until it is ended. With --torch every second process is a torch program whose threads spin while
they wait, as OpenMP's do by default. Nothing outlives the process that started it.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time

ROUND_S = 0.05  # between two looks at whether the parent still lives
SPINNING = {"OMP_WAIT_POLICY": "ACTIVE"}
CHOSEN = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT")  # the load is not to be tamed by these


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--load", type=int, default=6, help="busy processes (6)")
    parser.add_argument("--torch", action="store_true", help="every second one a torch program")
    parser.add_argument("--as", dest="kind", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--for", dest="parent", type=int, default=os.getppid(), help=argparse.SUPPRESS)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and what to run beside the load")
    asked = parser.parse_args()
    if asked.kind:
        KINDS[asked.kind](asked.parent)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that `finally` runs
    kinds = ["torch" if asked.torch and at % 2 else "loop" for at in range(asked.load)]
    busy = [_start(kind) for kind in kinds]
    try:
        return beside(asked.command[asked.command[:1] == ["--"] :], asked.parent)
    finally:
        for process in busy:
            process.kill()
            process.wait()


def beside(command: list[str], parent: int) -> int:
    """Run the command, or wait; the exit status. 0 when the parent has gone."""
    process = subprocess.Popen(command) if command else None
    try:
        while os.getppid() == parent:
            if process is not None and process.poll() is not None:
                return process.returncode if process.returncode >= 0 else 128 - process.returncode
            time.sleep(ROUND_S)
        return 0
    finally:
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait()


def loop(parent: int) -> None:
    """Count, until the parent has gone."""
    while os.getppid() == parent:
        until = time.monotonic() + ROUND_S
        while time.monotonic() < until:
            sum(range(1000))


def spin(parent: int) -> None:
    """Multiply matrices that every core works on, until the parent has gone."""
    import torch

    a_DD = torch.randn(384, 384)
    while os.getppid() == parent:
        a_DD = torch.nn.functional.normalize(a_DD @ a_DD)


KINDS = {"loop": loop, "torch": spin}


def _start(kind: str) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    command = [sys.executable, __file__, "--as", kind, "--for", str(os.getpid())]
    return subprocess.Popen(command, env=environment | SPINNING)


if __name__ == "__main__":
    raise SystemExit(main())
