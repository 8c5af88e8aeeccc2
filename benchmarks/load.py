"""Twelve sessions on the Economics page: server time from a moved knob to the last message of its rerun.

    python -m benchmarks.load [--sessions 12] [--moves 6] [--store]

A server in a process of its own, without a worker; clients that speak Streamlit's own protocol over
websockets, on the loopback alone. Every session looks at another architecture and turns batch and prompt in
turn to values it has not seen, so that nobody answers from somebody else's cache. Three loads: one session
alone; all sessions, each moving a knob every `--think` seconds; all at the same moment.
Targets: 150 ms alone (median), 1 s at the 95th percentile with twelve sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import streamlit
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

from app.options import listed
from benchmarks.store import RESULTS, environment
from moe_core.settings import ROOT, Settings
from moe_core.specs import RunSpec
from tests import synthetic

ALONE_S, TOGETHER_S = 0.15, 1.0
TIMEOUT_S, MOST_SESSIONS, MOST_MOVES = 120.0, 32, 50
KNOBS = {  # nine and seven values, turned by turns: no pair of them comes twice in 48 moves
    "batch": (2, 4, 16, 1, 32, 64, 128, 256, 8),
    "prompt": (2048, 8192, 1024, 16384, 512, 32768, 4096),
}
ARCHITECTURES = (
    *("Qwen3-30B-A3B", "OLMoE-1B-7B", "gpt-oss-20b", "DeepSeek-V2-Lite", "Qwen1.5-MoE-A2.7B", "Mixtral-8x7B"),
    *("GLM-4.5-Air", "DeepSeekMoE-16B", "Qwen3-Next-80B-A3B", "gpt-oss-120b", "DBRX", "Granite-3.0-1B-A400M"),
)


class Moved(NamedTuple):
    """One rerun: which knob, seconds until its last message, bytes received, whether the page failed."""

    knob: str
    seconds: float
    received: int
    failed: bool


class Session:
    """One tab without a browser: keeps the ids of the widgets it was sent, sends what a user moves."""

    def __init__(self, socket: ClientConnection, architecture: str) -> None:
        self.socket, self.architecture = socket, architecture
        self.page, self.widgets = "", dict[str, str]()
        self.values = dict[str, str]()
        self.turns = {knob: itertools.cycle(values) for knob, values in KNOBS.items()}

    async def open(self) -> Moved:
        """The first visit."""
        return await self._rerun("open", BackMsg())

    async def move(self, knob: str) -> Moved:
        """Turn one knob to its next value."""
        message = BackMsg()
        self.values[knob] = str(next(self.turns[knob]))
        for name, value in self.values.items():
            state = message.rerun_script.widget_states.widgets.add()
            state.id = self.widgets[name]
            state.string_array_value.data.append(value)
        return await self._rerun(knob, message)

    async def _rerun(self, knob: str, message: BackMsg) -> Moved:
        asked = message.rerun_script
        asked.page_name = "economics"
        asked.query_string = urlencode(
            {"architecture": listed(self.architecture)}
        )  # as the address bar has it
        asked.page_script_hash = self.page
        start = time.perf_counter()
        await self.socket.send(message.SerializeToString())
        received, failed, charts = 0, False, 0
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                data = await self.socket.recv()
                answer = ForwardMsg()
                answer.ParseFromString(bytes(data))
                received += len(data)
                kind = self._heard(answer)
                failed, charts = failed or kind == "exception", charts + (kind == "vega_lite_chart")
                if answer.WhichOneof("type") == "script_finished":
                    if answer.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                        continue
                    return Moved(knob, time.perf_counter() - start, received, failed or not charts)

    def _heard(self, answer: ForwardMsg) -> str | None:
        """Remember page and sliders; the kind of element that came, if one did."""
        if answer.WhichOneof("type") == "new_session":
            self.page = answer.new_session.page_script_hash
        element = answer.delta.new_element if answer.WhichOneof("type") == "delta" else None
        kind = element.WhichOneof("type") if element is not None else None
        if element is not None and kind == "slider":
            for knob in KNOBS:
                if element.slider.id.endswith(f"-{knob}"):
                    self.widgets[knob] = element.slider.id
        return kind


# -- the three loads -------------------------------------------------------------------------------


async def measure(port: int, sessions: int, moves: int, think: float) -> dict[str, list[Moved]]:
    """Every rerun of every load, by load."""
    url = f"ws://127.0.0.1:{port}/_stcore/stream"
    found: dict[str, list[Moved]] = {"first": [], "alone": [], "paced": [], "at once": []}
    async with contextlib.AsyncExitStack() as stack:
        tabs = []
        for index in range(sessions):
            line = await stack.enter_async_context(connect(url, subprotocols=["streamlit"], max_size=None))  # type: ignore[list-item]
            tabs.append(Session(line, ARCHITECTURES[index % len(ARCHITECTURES)]))
            found["first"].append(await tabs[-1].open())
        for move in range(2 * moves):
            found["alone"].append(await tabs[0].move(_knob(move)))
        paced = await asyncio.gather(*(_paced(tab, moves, think) for tab in tabs))
        found["paced"] = [one for mine in paced for one in mine]
        for move in range(moves):
            found["at once"] += await asyncio.gather(*(tab.move(_knob(move)) for tab in tabs))
    return found


async def _paced(tab: Session, moves: int, think: float) -> list[Moved]:
    """A user who looks between two moves, not in step with the others."""
    pause = random.Random(tab.architecture)
    found = []
    for move in range(moves):
        await asyncio.sleep(think * pause.uniform(0.5, 1.5))
        found.append(await tab.move(_knob(move)))
    return found


def _knob(move: int) -> str:
    return list(KNOBS)[move % len(KNOBS)]


def summary(rows: list[Moved]) -> dict[str, Any]:
    """Reruns, p50, p95, most, kilobytes, by knob as well."""

    def of(seconds: list[float]) -> dict[str, float]:
        ranked = sorted(seconds)
        p95 = ranked[min(len(ranked) - 1, round(0.95 * (len(ranked) - 1)))]
        return {"reruns": len(ranked), "p50_s": statistics.median(ranked), "p95_s": p95, "max_s": ranked[-1]}

    knobs = sorted({row.knob for row in rows})
    return {
        **of([row.seconds for row in rows]),
        "kilobytes": statistics.median(row.received for row in rows) / 1e3,
        "failed": sum(row.failed for row in rows),
        "knobs": {knob: of([row.seconds for row in rows if row.knob == knob]) for knob in knobs},
    }


# -- the server ------------------------------------------------------------------------------------


@contextlib.contextmanager
def served() -> Iterator[int]:
    """The app on a free port over a store with one synthetic run; ended afterwards."""
    with tempfile.TemporaryDirectory() as place, socket.socket() as free:
        synthetic.write_bundle(Settings(data_dir=Path(place)).prepare().runs_dir, RunSpec(), seed=1)
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
        free.close()
        command = [sys.executable, "-m", "moe_core", "serve", "--port", str(port)]
        values = os.environ | {"MOE_DATA_DIR": place, "MOE_WORKER": "external"}
        process = subprocess.Popen(command, cwd=ROOT, env=values, stdout=subprocess.DEVNULL)
        try:
            _wait(process, f"http://127.0.0.1:{port}/_stcore/health")
            yield port
        finally:
            process.terminate()
            process.wait(30)


def _wait(process: subprocess.Popen[bytes], url: str, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.1)
    raise SystemExit("the server did not come up: start it with `python -m moe_core serve` and look")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=12, choices=range(1, MOST_SESSIONS + 1), metavar="N")
    parser.add_argument("--moves", type=int, default=6, choices=range(1, MOST_MOVES + 1), metavar="N")
    parser.add_argument("--think", type=float, default=3.0, help="seconds between two moves of a session")
    parser.add_argument("--store", action="store_true", help="write the result under benchmarks/results")
    options = parser.parse_args()
    facts = environment() | {"streamlit": streamlit.__version__, "cores": os.cpu_count()}
    facts["load_before"] = round(os.getloadavg()[0], 2)
    with served() as port:
        rows = asyncio.run(measure(port, options.sessions, options.moves, options.think))
    loads = {name: summary(found) for name, found in rows.items()}
    found = {
        "environment": facts,
        "sessions": options.sessions,
        "think_s": options.think,
        "targets": {"alone_p50_s": ALONE_S, "paced_p95_s": TOGETHER_S},
        "loads": loads,
    }
    _show(loads)
    if options.store:
        target = RESULTS / f"load-{facts['date'][:10]}.json"
        target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"written: {target.relative_to(ROOT)}")


def _show(loads: dict[str, Any]) -> None:
    for name, row in loads.items():
        knobs = ", ".join(f"{knob} {one['p50_s'] * 1e3:.0f}" for knob, one in row["knobs"].items())
        print(
            f"  {name:8} {row['reruns']:4} reruns  p50 {row['p50_s'] * 1e3:6.0f} ms  "
            f"p95 {row['p95_s'] * 1e3:6.0f} ms  most {row['max_s'] * 1e3:6.0f} ms  "
            f"{row['kilobytes']:.0f} kB  failed {row['failed']}  (p50: {knobs})"
        )
    alone = "within" if loads["alone"]["p50_s"] <= ALONE_S else "above"
    paced = "within" if loads["paced"]["p95_s"] <= TOGETHER_S else "above"
    print(f"  alone {alone} {ALONE_S * 1e3:.0f} ms; paced {paced} {TOGETHER_S:.0f} s at p95")


if __name__ == "__main__":
    main()
