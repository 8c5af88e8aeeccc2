"""How fast the store is with ten million decisions: publish, ingest, and every question asked of them.

    python -m benchmarks.store [--decisions 10000000]

Writes benchmarks/results/store-<date>.json: hardware, versions, commit, date beside every number.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from moe_core.runs import bundle
from moe_core.settings import ROOT, Settings
from moe_core.specs import RunSpec
from moe_core.store import ingest, queries, routing, text
from moe_core.store.db import Store
from moe_core.version import __version__, commit
from tests import synthetic

LAYERS, EXPERTS, TOP_K = 8, 64, 8
RESULTS = ROOT / "benchmarks" / "results"
QUESTIONS: dict[str, Callable[[Store, str], Any]] = {
    "heatmap, layer x expert": lambda store, run: routing.load(store, run),
    "heatmap by domain": lambda store, run: routing.load(store, run, by_domain=True),
    "balance": routing.balance,
    "load curve": routing.load_curve,
    "co-activation, one layer": lambda store, run: routing.coactivation(store, run, 3),
    "distinct experts, decode": lambda store, run: routing.distinct(store, run, "decode"),
    "distinct experts, consecutive": lambda store, run: routing.distinct(store, run, "consecutive"),
    "flow between layers": routing.flow,
    "lift by domain": routing.lift,
    "lift by kind of character": lambda store, run: routing.lift(store, run, "kind"),
    "raster, 256 tokens": lambda store, run: text.raster(store, run, 3),
    "text, 256 tokens": lambda store, run: text.text(store, run, 3),
    "snippets": lambda store, run: text.snippets(store, run, 3, 5),
    "timings": queries.timings,
    "diff with itself": lambda store, run: queries.diff(store, run, run),
    "history": lambda store, _: queries.history(store),
}


def timed(call: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Seconds of `repeats` calls, the first included: median, least, most; and of CPU, over all cores.

    Wall time suffers from whatever else the machine does, CPU time hardly.
    """
    seconds, cpu = [], []
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        call()
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    wall = {"median_s": statistics.median(seconds), "min_s": min(seconds), "max_s": max(seconds)}
    return wall | {"cpu_s": statistics.median(cpu)}


def environment() -> dict[str, Any]:
    """What the numbers depend on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "cpu": model,
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "platform": platform.platform(terse=True),
        "python": platform.python_version(),
        "duckdb": duckdb.__version__,
        "pyarrow": pa.__version__,
        "moescope": __version__,
    }


def measure(settings: Settings, decisions: int, repeats: int) -> dict[str, Any]:
    """Publish one run of `decisions`, ingest it `repeats` times over, ask every question."""
    sequences = max(1, decisions // (LAYERS * TOP_K * 1024))
    batch = min(256, sequences)  # "trained": weights that do not compress
    spec = RunSpec(model="trained", experts=EXPERTS, top_k=TOP_K, batch=batch, seq=1024)
    path = synthetic.write_bundle(settings.runs_dir, spec, layers=LAYERS)
    rows = bundle.read(path).manifest.files["decisions.parquet"].rows
    store = Store.open(settings)
    try:
        report = {
            "decisions": rows,
            "bundle_bytes": sum(file.stat().st_size for file in path.iterdir()),
            "ingest, checked": timed(lambda: ingest.rebuild(store, reference=settings.data_dir), repeats),
            "nothing new": timed(lambda: ingest.refresh(store, reference=settings.data_dir), repeats),
        }
        asked = {
            name: timed(lambda ask=ask: ask(store, path.name), repeats) for name, ask in QUESTIONS.items()
        }
        return report | asked
    finally:
        store.close()


def show(rows: dict[str, Any]) -> None:
    for name, value in rows.items():
        if isinstance(value, dict):
            spread = f"{value['min_s'] * 1e3:8.1f} .. {value['max_s'] * 1e3:.1f}"
            cpu = f"CPU {value['cpu_s'] * 1e3:.1f} ms"
            print(f"  {name:32} {value['median_s'] * 1e3:9.1f} ms  ({spread.strip()}; {cpu})")
        else:
            print(f"  {name:32} {value:>9,}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    result: dict[str, Any] = {"environment": environment()}
    for name, decisions in (("default run", 65_536), ("large run", options.decisions)):
        with tempfile.TemporaryDirectory() as directory:
            settings = Settings(data_dir=Path(directory) / "state").prepare()
            result[name] = measure(settings, decisions, options.repeats)
        print(name)
        show(result[name])
    print(json.dumps(result["environment"], indent=1))
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"store-{result['environment']['date'][:10]}.json"
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written: {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
