"""Everything that can only be known on a GPU, in one command and at most ten minutes: `make gpu`.

    python -m benchmarks.gpu [--device cuda] [--quick] [--out FILE]

Kernels, routers and gradients against the oracle; the kernels beside transformers' three; the limits of
`auto`; a bench run, a calibration, both layer sweeps; what recording costs. Each stage runs in a process of
its own with a share of the time; one that fails does not stop the others. Needs no network and no browser.
Writes benchmarks/results/gpu-<device>-<date>.json and says at the end what held.
Exit code: 0 right, 1 a check failed or did not finish, 2 no such device or a package is missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PACKAGES = (
    "torch", "transformers", "numpy", "scipy", "pyarrow", "safetensors", "psutil", "pydantic",
    "pydantic_settings",
)  # fmt: skip
TOTAL_S = 580.0  # ten minutes, less what starting and writing take
QUICK_S = 600.0  # of one stage of a smoke run, which measures nothing and may share a busy machine
SLOWER, MEAN, RECORDING = 1.05, 1.25, 0.05  # the promise, on a GPU


class Stage(NamedTuple):
    """`work(device, quick)` gives plain values. `seconds`: the most it may take."""

    work: Callable[[str, bool], dict[str, Any]]
    seconds: float
    quick: bool  # whether it is part of a smoke run


def check(device: str, quick: bool) -> dict[str, Any]:
    """Kernels, gradients, routers and a decoder against the oracle."""
    from benchmarks import gpu_check
    from moe_core.device import pick

    return gpu_check.run(pick(device), quick)


def kernels(device: str, quick: bool) -> dict[str, Any]:
    """The kernels beside transformers' three, on the promised grid in bf16."""
    from benchmarks import kernels

    asked = ["--quick", "--dtypes", "fp32"] if quick else ["--dtypes", "bf16", "--seconds", "3"]
    return kernels.main(["--device", device, *asked])


def limits(device: str, quick: bool) -> dict[str, Any]:
    """Up to how many bytes of copied weights `gather` is the fastest kernel."""
    import torch

    from benchmarks import gpu_limits
    from moe_core.device import pick

    with torch.inference_mode():
        return gpu_limits.run(pick(device), quick)


def lab(name: str, **asked: Any) -> Callable[[str, bool], dict[str, Any]]:
    """A lab on its default question: the summary of its bundle and the stages' seconds."""

    def work(device: str, quick: bool) -> dict[str, Any]:
        from benchmarks.machine import settle
        from moe_core.labs.table import LABS
        from moe_core.runs import bundle
        from moe_core.runs.context import RunContext
        from moe_core.specs import RunSpec

        tiny = {"batch": 1, "seq": 32, "decode_steps": 1, "time_limit_s": 60.0} if quick else {}
        spec = RunSpec(lab=name, device=device, **(asked | tiny))  # type: ignore[arg-type]
        done = bundle.verify(LABS[name](spec, RunContext(settle=settle))).manifest
        kept = ("kernel", "decode_kernel", "dtype", "cuda", "driver", "rotation")
        return {
            "summary": done.summary,
            "stages": done.stages,
            "provenance": {key: done.provenance.get(key) for key in kept},
        }

    return work


def recording(device: str, quick: bool) -> dict[str, Any]:
    """What recording every decision adds to a pass."""
    from benchmarks import recording
    from moe_core.device import pick
    from moe_core.specs import RunSpec

    questions = (RunSpec(batch=1, seq=32),) if quick else recording.QUESTIONS
    return {"questions": [recording.measure(spec, pick(device), 2 if quick else 40) for spec in questions]}


STAGES: Mapping[str, Stage] = {
    "check": Stage(check, 110, quick=True),
    "kernels": Stage(kernels, 140, quick=True),
    "bench": Stage(lab("bench"), 60, quick=True),
    "recording": Stage(recording, 60, quick=True),
    "limits": Stage(limits, 50, quick=True),
    "layer_sweep": Stage(lab("layer_sweep", time_limit_s=35.0), 60, quick=False),
    "real_layers": Stage(lab("real_layers", time_limit_s=35.0), 60, quick=False),
    "calibrate": Stage(lab("calibrate"), 100, quick=False),
}


def missing() -> list[str]:
    """Packages that this Python lacks."""
    return [name.replace("_", "-") for name in PACKAGES if importlib.util.find_spec(name) is None]


def unavailable(device: str) -> str:
    """Why the device cannot be measured, or nothing."""
    from moe_core.device import pick
    from moe_core.errors import ConfigError

    try:
        pick(device)
    except ConfigError as error:
        return str(error)
    return ""


def run(device: str, quick: bool, total_s: float = TOTAL_S) -> dict[str, dict[str, Any]]:
    """Every stage's outcome: state (done, failed, out of time, left out), seconds, result or reason."""
    start, found = time.monotonic(), dict[str, dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        for name, stage in STAGES.items():
            most = QUICK_S if quick else min(stage.seconds, total_s - (time.monotonic() - start))
            if quick and not stage.quick:
                found[name] = {"state": "left out", "reason": "--quick", "seconds": 0.0}
                continue
            found[name] = _apart(name, device, quick, most, Path(folder))
            outcome = found[name]
            print(f"{name:12} {outcome['state']:12} {outcome['seconds']:6.1f} s  {outcome.get('reason', '')}")
            sys.stdout.flush()
    return found


def _apart(name: str, device: str, quick: bool, seconds: float, folder: Path) -> dict[str, Any]:
    """One stage in a process of its own."""
    if seconds < 1:
        return {"state": "out of time", "reason": "the ten minutes were over", "seconds": 0.0}
    result, start = folder / f"{name}.json", time.monotonic()
    command = [sys.executable, "-m", "benchmarks.gpu", "--stage", name, "--device", device]
    command += ["--out", str(result), *["--quick"] * quick]
    environment = os.environ | {"MOE_DATA_DIR": str(folder / "state"), "HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, timeout=seconds, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        return {"state": "out of time", "reason": f"more than {seconds:.0f} s", "seconds": seconds}
    spent = time.monotonic() - start
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"state": "failed", "reason": lines[-1], "trace": lines[-30:], "seconds": spent}
    return {"state": "done", "seconds": spent, "result": json.loads(result.read_text())}


def verdicts(found: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Each promise -> what held, with its number."""
    results = {name: outcome["result"] for name, outcome in found.items() if outcome["state"] == "done"}
    said = {}
    if checked := results.get("check"):
        failed = checked["failed"]
        said["right on the device"] = f"held: {checked['checks']} checks" if not failed else (
            f"NOT HELD: {len(failed)} of {checked['checks']}, first {failed[0]['name']}"
        )  # fmt: skip
    if faster := results.get("kernels", {}).get("all"):
        worst, mean = faster["worst"], faster["geometric_mean"]
        said[f"never slower than {SLOWER} x transformers' best"] = _held(
            worst >= 1 / SLOWER, f"{worst:.2f} x"
        )
        said[f"{MEAN} x transformers' best on average"] = _held(mean >= MEAN, f"{mean:.2f} x")
    if recorded := results.get("recording"):
        most = max(row["pass_wall"]["median"] for row in recorded["questions"])
        said[f"recording costs at most {RECORDING:.0%}"] = _held(most <= RECORDING, f"{most:+.1%}")
    if limits := results.get("limits"):
        said["limits of auto, from a trial on an H100 with torch 2.11"] = limits["sentence"]
    lost = [f"{name} ({outcome['state']})" for name, outcome in found.items() if outcome["state"] != "done"]
    return said | ({"not measured": ", ".join(lost)} if lost else {})


def _held(held: bool, number: str) -> str:
    return f"held: {number}" if held else f"NOT HELD: {number}"


def is_right(found: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the correctness part finished without a failure. Speed never decides this."""
    outcome = found["check"]
    return outcome["state"] == "done" and not outcome["result"]["failed"]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "mps", "cpu"))
    parser.add_argument("--quick", action="store_true", help="a smoke run: tiny sizes, no sweeps")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--stage", choices=sorted(STAGES), help="one stage in this process, into --out")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if lacking := missing():
        print(f"make gpu needs Python packages that {sys.executable} lacks: {', '.join(lacking)}")
        return 2
    if reason := unavailable(options.device):
        print(f"there is no GPU to measure here: {reason}")
        return 2
    if options.stage:
        result = STAGES[options.stage].work(options.device, options.quick)
        options.out.write_text(json.dumps(result, default=float))
        return 0
    return _measure(options)


def _measure(options: argparse.Namespace) -> int:
    import transformers

    from benchmarks import machine
    from moe_core.device import pick

    environment = machine.environment(pick(options.device)) | {"transformers": transformers.__version__}
    print(f"{environment['device']['name']}, torch {environment['torch']}: at most ten minutes")
    found = run(options.device, options.quick)
    said = verdicts(found)
    report = {"environment": environment, "held": said, "stages": found}
    key, date = environment["device"]["key"], environment["date"][:10].replace("-", "")
    path = options.out or machine.RESULTS / f"gpu-{key}-{date}.json"
    if options.out or not options.quick:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(f"written: {path}")
    if options.quick:
        print("a smoke run: its times mean nothing")
    for promise, state in said.items():
        print(f"{promise}: {state}")
    return 0 if is_right(found) else 1


if __name__ == "__main__":
    sys.exit(main())
