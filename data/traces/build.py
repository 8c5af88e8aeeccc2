"""Make the built-in trace from a checkout of github.com/deepseek-ai/ESFT.

    python data/traces/build.py CHECKOUT

Nothing is left out; weights are rounded to multiples of 1/512, which halves the file. What it makes is an
ordinary bundle, data/reference/deepseek-v2-lite, as `import-trace` would publish it.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from moe_core import registry  # noqa: E402
from moe_core.hf.traces.shape import Trace, batch  # noqa: E402
from moe_core.runs import traced  # noqa: E402
from moe_core.runs.traced import Told  # noqa: E402
from moe_core.settings import REFERENCE  # noqa: E402

MODEL, TOP_K, STEPS = "DeepSeek-V2-Lite", 6, 512
PUBLISHED = datetime(2024, 7, 5, 6, 12, 38, tzinfo=UTC)
DOMAINS, LAYERS = ("intent", "summary", "law", "translation"), range(1, 27)
SOURCE = (
    "github:deepseek-ai/ESFT, commit 579a7711e4b3, results/expert_scores (MIT, Copyright (c) 2023 DeepSeek); "
    "model ESFT-vanilla-lite, architecture of DeepSeek-V2-Lite; arXiv:2407.01906; weights rounded to 1/512"
)


def choices(folder: Path) -> Iterator[pa.RecordBatch]:
    """A line of a file is a sequence: experts of all its tokens, an empty column, their weights."""
    for domain in DOMAINS:
        for layer in LAYERS:
            lines = (folder / domain / f"expert_weights_{layer}.txt").read_text(encoding="utf-8").splitlines()
            for sequence, line in enumerate(line for line in lines if line.strip()):
                ids, weights = (part.split("\t") for part in line.strip().split("\t\t"))
                pairs = np.arange(len(ids))
                assert len(ids) == len(weights), (domain, layer, sequence)
                assert len(ids) % TOP_K == 0, (domain, layer, sequence)
                yield batch(
                    layer=np.full(len(ids), layer),
                    sequence=np.full(len(ids), sequence),
                    position=pairs // TOP_K,
                    slot=pairs % TOP_K,
                    expert=np.array(ids, dtype=np.int32),
                    weight=(np.array(weights, dtype=np.float64) * STEPS).round().astype(np.float32) / STEPS,
                    domain=domain,
                )


def main() -> None:
    folder = Path(sys.argv[1]) / "results" / "expert_scores"
    record = registry.get(MODEL)
    assert record.routing is not None
    told = Told(
        title="DeepSeek-V2-Lite on four kinds of text",
        model=record.name,
        experts=record.routing.experts,
        shared=record.routing.shared,
        source=SOURCE,
        architecture=record.architecture,
    )
    target = REFERENCE / record.name.lower()
    with TemporaryDirectory(dir=REFERENCE.parent) as aside:
        trace = Trace("text", ("a line a sequence",), choices(folder))
        made = traced.take_in(trace, told, Path(aside), created=PUBLISHED)
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
    target.chmod(0o755)
    for path in target.iterdir():
        path.chmod(0o644)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
