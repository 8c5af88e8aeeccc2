"""`make gpu`: what it says and when it fails, and a smoke run on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import gpu, gpu_check, gpu_limits
from moe_core.nn.experts import KERNELS
from moe_core.settings import ROOT

CPU = torch.device("cpu")
GOOD = {
    "check": {"checks": 100, "failed": [], "largest_error": 0.1},
    "kernels": {"all": {"worst": 0.97, "geometric_mean": 1.3, "points": 21}},
    "recording": {"questions": [{"pass_wall": {"median": 0.01}}, {"pass_wall": {"median": 0.04}}]},
    "limits": {"sentence": "before grouped 384 MiB in use, 200 to 500 MiB measured"},
}


def outcomes(**changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: {"state": "done", "result": result} for name, result in (GOOD | changes).items()}


@pytest.mark.slow
def test_the_checks_pass_here_and_see_a_kernel_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gpu_check.run(CPU, quick=True)
    assert found["failed"] == []
    assert found["checks"] > 100
    right = KERNELS["gather"]
    monkeypatch.setitem(KERNELS, "gather", lambda *given: right(*given) * 1.2)
    failed = gpu_check.run(CPU, quick=True)["failed"]
    assert failed
    assert all("gather" in check["name"] for check in failed)


def test_a_check_that_dies_is_a_failed_one() -> None:
    def die() -> torch.Tensor:
        raise RuntimeError("CUDA error: out of luck\nmore")

    check = gpu_check._checked("one", die, torch.zeros(1), 1.0)
    assert not check.ok
    assert check.reason == "RuntimeError: CUDA error: out of luck"
    nan = gpu_check._checked("two", lambda: torch.full((1,), torch.nan), torch.zeros(1), 1.0)
    assert not nan.ok


def test_the_summary_states_every_promise_with_its_number() -> None:
    said = gpu.verdicts(outcomes())
    assert list(said.values()) == [
        "held: 100 checks",
        "held: 0.97 x",
        "held: 1.30 x",
        "held: +4.0%",
        "before grouped 384 MiB in use, 200 to 500 MiB measured",
    ]
    slow = gpu.verdicts(outcomes(kernels={"all": {"worst": 0.9, "geometric_mean": 1.1}}))
    assert [state for state in slow.values() if state.startswith("NOT HELD")] == [
        "NOT HELD: 0.90 x",
        "NOT HELD: 1.10 x",
    ]
    assert gpu.is_right(outcomes(kernels={"all": {"worst": 0.9, "geometric_mean": 1.1}}))


def test_only_a_wrong_or_missing_check_fails_the_command() -> None:
    wrong = outcomes(check={"checks": 3, "failed": [{"name": "gather"}]})
    assert not gpu.is_right(wrong)
    assert gpu.verdicts(wrong)["right on the device"] == "NOT HELD: 1 of 3, first gather"
    late = outcomes() | {"check": {"state": "out of time"}, "kernels": {"state": "failed"}}
    assert not gpu.is_right(late)
    assert gpu.verdicts(late)["not measured"] == "check (out of time), kernels (failed)"


def test_a_stage_that_fails_or_hangs_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, float]] = []

    def run(command: list[str], timeout: float, **_: object) -> SimpleNamespace:
        stage = command[command.index("--stage") + 1]
        asked.append((stage, timeout))
        if stage == "kernels":
            raise subprocess.TimeoutExpired(command, timeout)
        if stage == "bench":
            return SimpleNamespace(returncode=1, stderr="Traceback\nRuntimeError: no kernel image")
        Path(command[command.index("--out") + 1]).write_text(json.dumps({"stage": stage}))
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    found = gpu.run("cuda", quick=False)
    assert [name for name, _ in asked] == list(gpu.STAGES)
    assert found["kernels"]["state"] == "out of time"
    assert (found["bench"]["state"], found["bench"]["reason"]) == ("failed", "RuntimeError: no kernel image")
    assert found["calibrate"]["result"] == {"stage": "calibrate"}
    asked.clear()
    late = gpu.run("cuda", quick=False, total_s=0.5)
    assert asked == []
    assert {outcome["state"] for outcome in late.values()} == {"out of time"}


def test_no_run_can_take_more_than_ten_minutes() -> None:
    assert gpu.TOTAL_S < 600
    assert all(stage.seconds <= gpu.TOTAL_S for stage in gpu.STAGES.values())


def test_without_a_device_or_a_package_it_says_so_and_exits_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    assert capsys.readouterr().out.startswith(
        "there is no GPU to measure here: device (cuda) is not available"
    )
    monkeypatch.setattr(gpu, "PACKAGES", ("torch", "no_such_thing"))
    assert gpu.missing() == ["no-such-thing"]
    assert gpu.main([]) == 2
    assert capsys.readouterr().out.endswith(" lacks: no-such-thing\n")


def test_the_limit_is_the_last_point_that_gather_won() -> None:
    points = [
        {"copied_bytes": 100, "gather": 1.0, "rival_s": 2.0, "rival": "grouped"},
        {"copied_bytes": 200, "gather": 1.9, "rival_s": 2.0, "rival": "grouped"},
        {"copied_bytes": 400, "gather": 3.0, "rival_s": 2.0, "rival": "grouped"},
    ]
    assert gpu_limits.limit(points) == 200
    assert gpu_limits.limit(points[2:]) == 0
    assert gpu_limits.sentence({"a": points}) == "before grouped 384 MiB in use, 0 to 0 MiB measured"


BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
import {modules}
"""


@pytest.mark.parametrize(
    ("names", "modules"),
    [
        ({"streamlit", "duckdb", "altair", "plotly", "huey", "typer"}, "benchmarks.kernels"),
        (
            {"streamlit", "duckdb", "altair", "plotly", "huey", "typer", "pandas"},
            "benchmarks.gpu, benchmarks.gpu_check, benchmarks.recording, moe_core.labs.table",
        ),
    ],
    ids=["kernels", "labs"],
)
def test_it_needs_the_torch_side_only(names: set[str], modules: str) -> None:
    """transformers looks whether pandas is there, which a blocker would break: nothing of ours does."""
    code = BLOCKED.format(names=names, modules=modules)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_smoke_run_on_the_cpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(out.read_text())
    states = {name: outcome["state"] for name, outcome in report["stages"].items()}
    assert states == {name: "done" if stage.quick else "left out" for name, stage in gpu.STAGES.items()}, done
    assert report["environment"]["torch"] == torch.__version__
    assert report["held"]["right on the device"].startswith("held: ")
    assert "right on the device: held" in done.stdout
