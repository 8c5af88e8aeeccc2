"""Train the grid of shipped mixtures and its dense ladder: whatever is missing, in order of use.

    python data/models/train_grid.py              # all that is missing; stop it and start it at will
    python data/models/train_grid.py --score      # bits per byte of every file again, beside its log

About 20 minutes a model on one CPU core, with one thread, so that a seed says everything; run it once a core:
processes side by side never take the same one. Beside every model lies its log. A model that was begun is
begun again: nothing half-trained is ever kept.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}  # before torch is imported

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from moe_core import grid  # noqa: E402
from moe_core.grid import Member  # noqa: E402
from moe_core.labs.training import corpus  # noqa: E402
from moe_core.labs.training.loop import Recipe, train  # noqa: E402
from moe_core.labs.training.measures import LoadWindow  # noqa: E402
from moe_core.labs.training.strategies import Balancing  # noqa: E402
from moe_core.nn import checkpoint  # noqa: E402
from moe_core.nn.model import Decoder, initialise  # noqa: E402
from moe_core.settings import MODELS  # noqa: E402

TOKENS = 4096  # of a step
SHORT, LONG, EVERY = 256, grid.LONGEST, 10  # bytes of a sequence; every tenth step reads long ones
STEPS = 5000  # 20.5 million bytes of text, a little over two epochs
SEED = 0
RECIPE = Recipe(steps=STEPS, peak=4e-3, balancing=Balancing(auxiliary=1e-3, rule="sign", rate=2e-3))
HELDOUT = 10**9  # bytes of each domain at most: all there are
VALIDATION = 8192
REPORT = 250  # steps


def score(model: Decoder) -> dict[str, float]:
    """Bits per byte of held-out text, over cold windows of the short and of the long length."""
    return {str(seq): corpus.bits_per_byte(model, corpus.heldout(HELDOUT, seq)) for seq in (SHORT, LONG)}


def learn(member: Member, log: Callable[..., None]) -> Decoder:
    """The trained model; what happened on the way is logged."""
    model = Decoder(grid.architecture(member))
    initialise(model, SEED)
    log(event="start", name=member.name, parameters=sum(p.numel() for p in model.parameters()))
    seen = LoadWindow(len(corpus.domains()))
    began, losses = time.monotonic(), list[float]()
    source = corpus.mixed(TOKENS, SHORT, LONG, EVERY, SEED)
    validation = corpus.heldout(VALIDATION, SHORT)
    windows = []
    for step in train(model, RECIPE, (windows.append(w) or w for w in source)):
        losses.append(step.loss)
        if step.routings:
            seen.add(step.routings, windows[-1].domains_B)
        windows.clear()
        if (step.number + 1) % REPORT == 0:
            load = seen.sum_up()._asdict() if step.routings else {}
            kept = {f"load_{name}": value for name, value in load.items() if name != "loads_LE"}
            here = corpus.bits_per_byte(model, validation)
            log(event="step", step=step.number + 1, loss=sum(losses) / len(losses), sample=here, **kept)
            losses.clear()
    log(event="end", seconds=time.monotonic() - began)
    return model.eval()


def keep(member: Member, folder: Path) -> None:
    """Train one member and ship it: log, int8 file, and what the rounding cost."""
    path = folder / member.path.name
    with path.with_suffix(".tmp").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another process trains it
        file.truncate(0)

        def log(**fields: object) -> None:
            line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **_short(fields)})
            print(line, flush=True)
            print(line, file=file, flush=True)

        recipe = {k: v for k, v in vars(RECIPE).items() if k != "balancing"}
        log(event="recipe", seed=SEED, torch=torch.__version__, processor=platform.processor(), **recipe,
            balancing=vars(RECIPE.balancing), tokens=TOKENS)  # fmt: skip
        model = learn(member, log)
        exact = score(model)
        made = {"seed": SEED, "steps": STEPS, "torch": torch.__version__,
                "date": datetime.now(UTC).date().isoformat()}  # fmt: skip
        checkpoint.save_int8(model, path.with_suffix(".part"), made)
        log(event="heldout", fp32=exact, int8=score(checkpoint.load(path.with_suffix(".part"))))
    path.with_suffix(".tmp").replace(path.with_suffix(".log"))
    path.with_suffix(".part").chmod(0o644)
    path.with_suffix(".part").replace(path)


def _short(fields: dict[str, object]) -> dict[str, object]:
    return {
        name: float(f"{value:.5g}") if isinstance(value, float) else value for name, value in fields.items()
    }


def scored(folder: Path) -> int:
    """Score every shipped model again; how many differ from their log by more than 0.002 bits per byte."""
    wrong = 0
    for path in [*sorted(folder.glob("*.safetensors")), *sorted(MODELS.glob("*.safetensors"))]:
        logged = told(path.with_suffix(".log"))
        model = checkpoint.load(path)
        found = {seq: corpus.bits_per_byte(model, corpus.heldout(HELDOUT, int(seq))) for seq in logged}
        off = max(abs(found[seq] - logged[seq]) for seq in logged)
        wrong += off > 0.002
        print(f"{path.stem}: {found}, off by {off:.5f}", flush=True)
    return wrong


def told(log: Path) -> dict[str, float]:
    """Bits per byte that a log says, by the bytes of a window. The larger models' logs go by kind of text."""
    events = [json.loads(line) for line in log.read_text().splitlines()]
    last = next(event for event in reversed(events) if event["event"] == "heldout")
    found: dict[str, float] = last["int8"] if "int8" in last else {str(LONG): last["model"]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--score", action="store_true", help="score what is there instead")
    parser.add_argument("--folder", type=Path, default=grid.FOLDER)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.score:
        sys.exit(scored(args.folder) > 0)
    for member in grid.in_order_of_use():
        if not (args.folder / member.path.name).exists():
            keep(member, args.folder)


if __name__ == "__main__":
    main()
