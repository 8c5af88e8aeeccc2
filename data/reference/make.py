"""Make the reference runs that ship with the program, on the device at hand.

    python data/reference/make.py cpu [--device cpu]
    python data/reference/make.py h100 --device cuda
    python data/reference/make.py cpu --labs calibrate layer_sweep real_layers
    python data/reference/make.py cpu --labs collapse auxiliary  # experiments, in full: half an hour each

Writes data/reference/<name>-<lab> for every lab, replacing what was there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from moe_core.cli.ask import ask, finished  # noqa: E402
from moe_core.runs import bundle  # noqa: E402
from moe_core.scenario.spec import Scenario  # noqa: E402
from moe_core.settings import REFERENCE, Settings  # noqa: E402
from moe_core.specs import EXPERIMENTS, RunSpec, Training  # noqa: E402
from moe_core.version import commit  # noqa: E402

FIRST = Scenario().run_spec().model_dump(mode="json")  # what a first visitor asks, so that it answers at once
SWEEP = FIRST | {"lab": "layer_sweep", "batch": RunSpec().batch, "seq": RunSpec().seq}
QUESTIONS = (
    FIRST,
    FIRST | {"lab": "topk_sweep"},
    {"lab": "calibrate", "time_limit_s": 600.0},
    SWEEP,
    {"lab": "real_layers", "time_limit_s": 240.0},
)
FULL = tuple(
    {"lab": lab, "training": Training(setting="full"), "time_limit_s": 20_000.0}
    for lab in EXPERIMENTS
    if lab != "balancing"  # which has no arms of its own
)


def make(name: str, question: dict[str, object], device: str) -> Path:
    """Run one question in a state directory of its own and copy the bundle, verified before and after."""
    spec = RunSpec.parse({**question, "device": device})
    target = REFERENCE / f"{name}-{spec.lab}"
    with tempfile.TemporaryDirectory() as directory:
        os.environ["MOE_DATA_DIR"] = f"{directory}/state"  # where the run itself will write
        settings = Settings.load()
        found = bundle.verify(settings.runs_dir / finished(ask(settings, spec)))
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(found.path, target)
    target.chmod(0o755)
    bundle.verify(target)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", help="of the device, short: cpu, h100")
    parser.add_argument("--device", default="auto")
    labs = [str(question["lab"]) for question in QUESTIONS]
    known = [*labs, *(str(question["lab"]) for question in FULL)]
    parser.add_argument("--labs", nargs="+", default=labs, choices=known, help="of the bench by default")
    options = parser.parse_args()
    if (commit() or "-dirty").endswith("-dirty"):
        print("warning: files differ from the commit that these runs will name", file=sys.stderr)
    for question in (question for question in (*QUESTIONS, *FULL) if question["lab"] in options.labs):
        target = make(options.name, question, options.device)
        manifest = bundle.read(target).manifest
        size = sum(path.stat().st_size for path in target.iterdir())
        print(f"{target.relative_to(ROOT)}: {manifest.provenance['device']}, {size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
