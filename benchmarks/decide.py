"""Server time from a knob to verdict and chart on Overview and Decide. At most 150 ms are promised.

    python -m benchmarks.decide [--store]

As `benchmarks.pages`: whole reruns under AppTest, every value unseen, synthetic runs, no worker. The process
has settled as a server has before its first visitor: pages imported, measured tables read. What is promised
is the 95th percentile over every turn of every Overview knob, in seconds of this process, which other work on
the machine does not lengthen. Two knobs are turned on the engine alone, without the page: what the command
line and a reader of the API wait for.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from math import ceil
from pathlib import Path
from typing import Any

import streamlit

from app import server
from benchmarks.pages import _fill, _knob
from benchmarks.store import RESULTS, environment
from moe_core.decide.flips import curve, flips
from moe_core.decide.sensitivity import swings
from moe_core.decide.spec import DecideSpec
from moe_core.decide.verdict import decide
from moe_core.settings import ROOT, Settings

LIMIT_S = 0.15
BATCHES = (1, 2, 4, 16, 32, 64)
CONTEXTS = (1024, 2048, 8192, 16384, 512)
MODELS = ("Mixtral-8x7B", "gpt-oss-20b", "OLMoE-1B-7B", "Qwen1.5-MoE-A2.7B", "DeepSeekMoE-16B")
RIVALS = ("active", "total", "Qwen3-32B", "Llama-3.1-8B")
KNOBS = (
    ("overview", "view", "", "batch", BATCHES),
    ("overview", "view", "", "prompt", CONTEXTS),
    ("overview", "view", "", "answer", (1, 2, 4, 8, 16, 32)),
    ("overview", "view", "", "precision", ("fp8", "int4", "bf16")),
    ("overview", "view", "", "architecture", MODELS),
    ("overview", "view", "", "experts", (32, 64, 256, 512)),
    ("overview", "view", "", "top_k", (1, 2, 4, 6, 12, 16)),
    ("overview", "view", "", "shared", (1, 2, 4)),
    ("overview", "view", "", "rival", RIVALS),
    ("overview", "view", "", "hardware", ("H200", "A100 80GB", "B200", "L40S", "MI300X")),
    ("overview", "view", "", "many", ("1", "2", "8")),
    ("decide", "argue", "What would flip it", "batch", BATCHES),
    ("decide", "argue", "Sensitivity", "batch", BATCHES),
    ("decide", "argue", "Sensitivity", "rival", RIVALS),
    ("decide", "argue", "Weights", "latency_ms", (20.0, 25.0, 30.0, 35.0, 41.0)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # AppTest has no server, and says so at every call
    facts = environment() | {"streamlit": streamlit.__version__}
    with tempfile.TemporaryDirectory() as directory:
        os.environ |= {"MOE_DATA_DIR": directory, "MOE_WORKER": "external"}
        _fill(Settings(data_dir=Path(directory)).prepare())
        server._settle()
        rows = {
            f"{page}, {tab or 'verdict and chart'}: {widget}": _knob(page, key, tab, widget, values)
            for page, key, tab, widget, values in KNOBS
        }
        streamlit.cache_resource.clear()  # closes the store
    rows |= engine()
    found = {"environment": facts, "limit_s": LIMIT_S, "overview": _overview(rows), "knobs": rows}
    for name, row in rows.items():
        spread = f"{row['min_s'] * 1e3:.0f} .. {row['max_s'] * 1e3:.0f}"
        cpu = f"; CPU {row['cpu_s'] * 1e3:.0f} ms" if "cpu_s" in row else ""
        print(f"  {name:52} {row['median_s'] * 1e3:6.0f} ms  ({spread}{cpu})")
    for what, values in found["overview"].items():
        said = ", ".join(f"{name.removesuffix('_s')} {value * 1e3:.0f} ms" for name, value in values.items())
        print(f"  every turn of every Overview knob, {what}: {said}")
    if options.store:
        target = RESULTS / f"decide-{facts['date'][:10]}.json"
        target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"written: {target.relative_to(ROOT)}")


def _overview(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Median, 95th percentile and most over every turn of every knob of the first page.

    Wall time is what is promised, and true on an idle machine only; CPU time counts every thread.
    """
    found = {}
    for what, key in (("wall", "each_s"), ("CPU", "each_cpu_s")):
        every = sorted(one for name, row in rows.items() if name.startswith("overview") for one in row[key])
        p95 = every[ceil(0.95 * len(every)) - 1]
        found[what] = {"p50_s": statistics.median(every), "p95_s": p95, "max_s": every[-1]}
    return found


def engine() -> dict[str, dict[str, Any]]:
    """A verdict, its curve, all flips and the tornado, at batches not seen before."""
    asked = {"preset": "chat", "mixture": "Qwen3-30B-A3B", "dense": "Qwen3-14B", "devices": 2}
    work = {"verdict": decide, "curve": lambda v: curve(v, "batch"), "all flips": flips, "tornado": swings}
    taken: dict[str, list[float]] = {name: [] for name in work}
    for batch in BATCHES:
        found: Any = DecideSpec.of({**asked, "workload": {"batch": batch}})
        for name, step in work.items():
            start = time.perf_counter()
            made = step(found)
            taken[name].append(time.perf_counter() - start)
            found = made if name == "verdict" else found
    return {
        f"engine, {name}: batch": {
            **{"median_s": statistics.median(wall), "min_s": min(wall), "max_s": max(wall)},
            "reruns": len(wall),
        }
        for name, wall in taken.items()
    }


if __name__ == "__main__":
    main()
