"""Launch: the same function on several ranks, each a process of its own, over gloo on the loopback.

    launch("module:function", ranks=2, arguments={"tokens": 64})  ->  [value of rank 0, value of rank 1]

The function gets `arguments` and returns plain values; torch.distributed is set up around it. Ranks meet through
a file, so no port is asked for. Nothing outlives the call: a rank that dies takes the others with it (a peer's
collective raises at once, or after `PEER_S` where the peer only stopped), and all of them end when the process
that started them does, however that ended: they read its pipe, which then closes.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from moe_core.errors import CancelledError, short
from moe_core.settings import ROOT

PEER_S = 20.0  # how long a collective waits for a rank that lives and says nothing
POLL_S = 0.02


class LostRankError(RuntimeError):
    """A rank ended before its work did; the message has its last words."""


def launch(
    task: str,
    *,
    ranks: int,
    arguments: Mapping[str, Any],
    time_limit_s: float = 120.0,
    check: Callable[[], None] = lambda: None,
) -> list[Any]:
    """What `task` returned on every rank, in order. `check` is called while they work; it may raise.

    Raises LostRankError, and CancelledError when `time_limit_s` seconds are over.
    """
    with tempfile.TemporaryDirectory(prefix="moescope-ranks-") as folder:
        started: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(ranks):
                started.append(_start(task, rank, ranks, arguments, folder))
            _wait(started, folder, time.monotonic() + time_limit_s, check)
        finally:
            _end(started)
        return [json.loads(_of(folder, rank, "json").read_text()) for rank in range(ranks)]


def _start(
    task: str, rank: int, ranks: int, arguments: Mapping[str, Any], folder: str
) -> subprocess.Popen[bytes]:
    asked = {"task": task, "rank": rank, "ranks": ranks, "arguments": dict(arguments), "folder": folder}
    with _of(folder, rank, "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "moe_core.dist.launch", json.dumps(asked)],
            cwd=ROOT,
            env=os.environ | environment(),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )


def environment() -> dict[str, str]:
    """Of a rank: one thread that sleeps when it waits, and no network but the loopback."""
    names = [name for _, name in socket.if_nameindex()] if hasattr(socket, "if_nameindex") else []
    loopback = next((name for name in names if name.startswith("lo")), "lo")
    return {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GLOO_SOCKET_IFNAME": loopback}


def _wait(
    started: Sequence[subprocess.Popen[bytes]], folder: str, until: float, check: Callable[[], None]
) -> None:
    while True:
        codes = [process.poll() for process in started]
        if all(code == 0 for code in codes):
            return
        failed = [(code, rank) for rank, code in enumerate(codes) if code]
        if failed:
            code, rank = min(failed)  # one that was killed (below zero) before those that noticed
            raise LostRankError(f"rank {rank} of {len(started)} ended with {code}{_last_words(folder, rank)}")
        if time.monotonic() > until:
            raise CancelledError("ranks did not end within their time limit; ask again on a quieter machine")
        check()
        time.sleep(POLL_S)


def _end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in started:
        process.kill()
    for process in started:
        process.wait()
        assert process.stdin is not None, "a rank reads our pipe"
        process.stdin.close()


def _of(folder: str, rank: int, kind: str) -> Path:
    return Path(folder) / f"{rank}.{kind}"


def _last_words(folder: str, rank: int) -> str:
    lines = _of(folder, rank, "log").read_text(errors="replace").strip().splitlines()
    return f": {short(lines[-1], 300)}" if lines else ""


# -- in a rank -------------------------------------------------------------------------------------


def main(asked: Mapping[str, Any]) -> None:
    """Be one rank: do the task, write its value down."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    folder, rank = asked["folder"], asked["rank"]
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=asked["ranks"],
        timeout=timedelta(seconds=PEER_S),
    )
    module, _, name = asked["task"].partition(":")
    value = getattr(import_module(module), name)(asked["arguments"])
    _of(folder, rank, "json").write_text(json.dumps(value))
    distributed.barrier()  # nobody leaves while another may still be heard
    distributed.destroy_process_group()


def _end_with_parent() -> None:
    """Nobody writes to this pipe: it ends when the process that holds its other end does."""
    os.read(0, 1)  # not sys.stdin: its lock would be held when the interpreter ends
    os._exit(1)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
