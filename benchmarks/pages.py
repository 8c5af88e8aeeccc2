"""Server time from a knob to its chart on Architectures and Memory. At most 100 ms are promised.

    python -m benchmarks.pages [--store]

A rerun of the whole script under Streamlit's AppTest, over a store of synthetic runs, without a worker.
Every rerun has a value that was not seen before, so every figure that depends on it is compiled anew.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import altair
import streamlit
from streamlit.testing.v1 import AppTest

from benchmarks.store import RESULTS, environment
from moe_core.settings import ROOT, Settings
from moe_core.specs import RunSpec
from tests import synthetic

LIMIT_S = 0.1
MODELS = ("DeepSeek-V3", "gpt-oss-120b", "Qwen3-235B-A22B", "OLMoE-1B-7B", "DBRX", "Llama-4-Scout-17B-16E")
BATCHES = (1, 2, 4, 16, 32, 64)
Knob = tuple[str, str, str, str, Iterable[Any]]  # page, its tabs' key, tab, widget, values

KNOBS: tuple[Knob, ...] = (
    ("architectures", "look", "This model", "subject", MODELS),
    ("architectures", "look", "Edit", "edit_experts", (136, 144, 160, 192, 256, 320)),
    ("architectures", "look", "Edit", "edit_layers", (49, 50, 51, 52, 53, 54)),
    ("architectures", "look", "Dense twins", "subject", MODELS),
    ("architectures", "look", "Compare", "subject", MODELS),
    ("architectures", "look", "Catalogue", "subject", MODELS),
    ("memory", "budget", "Every device", "batch", BATCHES),
    ("memory", "budget", "Formats", "batch", BATCHES),
    ("memory", "budget", "Split", "batch", BATCHES),
    ("memory", "budget", "KV cache", "kv_format", ("fp8", "int8", "int4", "nvfp4", "fp32")),
    ("memory", "budget", "Experts on the host", "batch", BATCHES),
    ("memory", "budget", "Training", "prompt", (512, 1024, 2048, 8192, 16384)),
    ("memory", "budget", "Every device", "expert_ways", (2, 4, 8, 16, 32)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # AppTest has no server, and says so at every call
    facts = environment() | {"streamlit": streamlit.__version__, "altair": altair.__version__}
    with tempfile.TemporaryDirectory() as directory:
        os.environ |= {"MOE_DATA_DIR": directory, "MOE_WORKER": "external"}
        _fill(Settings(data_dir=Path(directory)).prepare())
        rows = {
            f"{page}, {tab}: {widget}": _knob(page, key, tab, widget, values)
            for page, key, tab, widget, values in KNOBS
        }
        streamlit.cache_resource.clear()  # closes the store
    every = [row["median_s"] for row in rows.values()]
    found = {"environment": facts, "limit_s": LIMIT_S, "median_s": statistics.median(every), "knobs": rows}
    _show(found)
    if options.store:
        target = RESULTS / f"pages-{facts['date'][:10]}.json"
        target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"written: {target.relative_to(ROOT)}")


def _fill(settings: Settings) -> None:
    """The runs that the scenarios of the knobs ask for, so that no page waits."""
    for batch in (8, *BATCHES):
        synthetic.write_bundle(settings.runs_dir, RunSpec(batch=batch), seed=batch)


def _knob(page: str, key: str, tab: str, widget: str, values: Iterable[Any]) -> dict[str, Any]:
    """Open one tab, then turn one knob through values that nobody has seen."""
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=120)
    app.run()
    app.switch_page(f"../pages/{page}.py").run()
    app.session_state[key] = tab
    app.run()
    streamlit.cache_data.clear()
    wall, cpu = [], []
    for value in values:
        start, start_cpu = time.perf_counter(), time.process_time()
        _turn(app, widget)(value).run()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
        assert not app.exception, app.exception
    spread = {"median_s": statistics.median(wall), "min_s": min(wall), "max_s": max(wall)}
    return spread | {"cpu_s": statistics.median(cpu), "reruns": len(wall), "each_s": wall, "each_cpu_s": cpu}


def _turn(app: AppTest, widget: str) -> Callable[[Any], Any]:
    """What sets a widget, whatever its kind."""
    kinds = (app.selectbox, app.number_input, app.select_slider)
    found = next(one for kind in kinds for one in kind if one.key == widget)
    setter: Callable[[Any], Any] = found.set_value
    return setter


def _show(found: dict[str, Any]) -> None:
    for name, row in found["knobs"].items():
        spread = f"{row['min_s'] * 1e3:.0f} .. {row['max_s'] * 1e3:.0f}"
        print(f"  {name:44} {row['median_s'] * 1e3:6.0f} ms  ({spread}; CPU {row['cpu_s'] * 1e3:.0f} ms)")
    verdict = "within" if found["median_s"] <= LIMIT_S else "above"
    print(f"  median of all {found['median_s'] * 1e3:.0f} ms, {verdict} {LIMIT_S * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
