"""`lab`: the list, a run in this process or by a live worker, and what was found. The labs are fakes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moe_core.cli import main
from moe_core.jobs import heartbeat
from moe_core.jobs.heartbeat import TRAINING
from moe_core.jobs.queue import JobQueue
from moe_core.jobs.worker import Labs
from moe_core.labs.training.table import TABLE, question
from moe_core.runs.context import RunContext
from moe_core.settings import ROOT, Settings
from moe_core.specs import EXPERIMENTS, RunSpec, Strategy
from tests import synthetic
from tests.jobs.fake import wait_for


@pytest.fixture(autouse=True)
def nothing_ships(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    home = sys.modules["moe_core.cli.lab"]  # the package's own name of it is the command
    monkeypatch.setattr(home, "REFERENCE", tmp_path / "reference")
    return tmp_path / "reference"


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(spec: RunSpec, context: RunContext) -> Path:
        context.step("train", 0.5)
        return synthetic.write_bundle(Settings.load().runs_dir, spec)

    labs = Labs(dict.fromkeys(EXPERIMENTS, made), "Fake CPU", "cpu-test")
    monkeypatch.setattr("moe_core.cli.ask.load_experiments", lambda: labs)


def say(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["lab", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = say(capsys, *words, "--json")
    return code, json.loads(out)


def test_the_list_has_every_experiment_and_its_runs(
    settings: Settings, capsys: pytest.CaptureFixture[str], bundle_dir: Callable[..., Path]
) -> None:
    run_id = bundle_dir(question("collapse")).name
    bundle_dir(RunSpec(batch=1, seq=16))  # no experiment
    code, found = told(capsys, "list")
    assert code == 0
    rows = {row["lab"]: row for row in found["labs"]}
    assert tuple(rows) == tuple(TABLE)
    assert rows["collapse"]["code"] == "E2"
    assert [run["run_id"] for run in rows["collapse"]["runs"]] == [run_id]
    assert rows["bias"]["runs"] == []
    _, out, _ = say(capsys)
    assert "here quick" in out


def test_a_run_is_performed_in_this_process_and_answered_from_the_store_after(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = told(capsys, "run", "collapse", "--setting", "quick", "--seed", "3", "--seeds", "2")
    assert code == 0
    assert (settings.runs_dir / found["run_id"]).is_dir()
    assert found["findings"]["maxvio_step.none.k1"]["value"] == pytest.approx(4.35)  # of seeds 3 and 4
    assert found["findings"]["maxvio_step.none.k1"]["seeds"] == 2
    assert found["reused"] is False
    _, again = told(capsys, "run", "collapse", "--seed", "3", "--seeds", "2")
    assert (again["reused"], again["run_id"]) == (True, found["run_id"])


def test_page_and_command_ask_the_same_question(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    _, found = told(capsys, "run", "E2")
    queue = JobQueue(settings)
    job = queue.submit(question("collapse"))
    assert (job.reused, job.run_id) == (True, found["run_id"])
    queue.close()


def _phase(settings: Settings) -> str:
    vital = heartbeat.read(settings.data_dir, TRAINING)
    return vital.beat.phase if vital and vital.alive else "none"


def test_a_live_worker_answers(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "tests.jobs.fake", "--lane", "training", "--name", TRAINING]
    worker = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: _phase(settings) == "idle", "a worker")
        code, _ = told(capsys, "run", "collapse")
        assert code == 0
        queue = JobQueue(settings)
        job = queue.get(queue.list_jobs()[0].job_id)
        assert job is not None
        assert job.device_key == "cpu-fake"  # the other process, not this one
        queue.close()
    finally:
        worker.kill()
        worker.wait()


def test_strategies_in_words(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    arms = ("--strategy", "none", "--strategy", "Auxiliary=0.1", "--strategy", "sign")
    code, _ = told(capsys, "run", "balancing", *arms, "--experts", "8", "--top-k", "2")
    assert code == 0
    queue = JobQueue(settings)
    spec = queue.list_jobs()[0].spec
    assert spec.training is not None
    assert spec.training.strategies == (Strategy(), Strategy(auxiliary=0.1), Strategy(rule="sign", rate=0.02))
    assert (spec.experts, spec.top_k, spec.shared) == (8, 2, RunSpec().shared)
    queue.close()


def test_show_tells_what_ships_beside_what_was_made_here(
    settings: Settings,
    nothing_ships: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    bundle_dir: Callable[..., Path],
) -> None:
    bundle_dir(question("collapse"))
    made = synthetic.write_bundle(tmp_path / "made", question("collapse", "full"), device_key="elsewhere")
    nothing_ships.mkdir()
    made.rename(nothing_ships / "collapse-full")
    code, found = told(capsys, "show", "Collapse")
    assert code == 0
    origins = [(run["reference"], run["setting"]) for run in found["runs"]]
    assert origins == [(None, "quick"), ("collapse-full", "full")]
    full = found["runs"][1]["findings"]["maxvio_step.none.k1"]
    assert full["low"] < full["value"] < full["high"]
    _, out, _ = say(capsys, "show", "E2")
    assert "maxvio_step.none.k1" in out
    assert "collapse-full, full" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("run", "colapse"), "lab (colapse): is not known; close matches: collapse"),
        (("show", "E99"), "lab (E99): is not known"),
        (("run",), "name (): must be an experiment to run, such as collapse"),
        (("dance", "collapse"), "action (dance): must be list, run or show"),
        (("run", "collapse", "--setting", "slow"), "setting (slow): must be quick or full"),
        (("run", "collapse", "--seeds", "99"), "seeds (99)"),
        (("run", "collapse", "--seed", "-1"), "seed (-1)"),
        (("run", "balancing"), "strategies (0): must be at least one for balancing"),
        (("run", "collapse", "--strategy", "none"), "strategies (1): must be none: collapse has its own"),
        (("run", "balancing", "--strategy", "sgn=1"), "strategies (sgn): is not known; close matches: sign"),
        (("run", "balancing", "--strategy", "sign=x"), "strategies (sign=x): must be a name, or name=number"),
        (("run", "balancing", "--strategy", "sign=0"), "strategies (sign=0): must be a number from 0.0001"),
        (("run", "balancing", "--strategy", "z=nan"), "strategies (z=nan): must be a number from 0 to 100"),
        (("run", "balancing", "--strategy", "hash=1"), "strategies (hash=1): hash takes no number"),
        (("run", "balancing", *("--strategy", "none") * 7), "strategies"),
        (("run", "collapse", "--experts", "4"), "experts (4): must be left out: collapse has a mixture"),
        (("show", "gates"), "lab (gates): has no run here and none ships; start one with: lab run gates"),
    ],
)
def test_what_can_be_mended_is_one_sentence(
    settings: Settings, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    code, out, err = say(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert sentence in err
    assert err.count("\n") == 1
