"""The command line: answers, sentences, exit codes. The labs are fakes, the queue and the files are real."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast, get_args

import pytest
import typer

from moe_core.cli import COMMANDS, app, called, main
from moe_core.cli.ask import Bar
from moe_core.decide import rules
from moe_core.decide.spec import RuleName
from moe_core.errors import ConfigError
from moe_core.jobs import heartbeat
from moe_core.jobs.queue import JobQueue
from moe_core.jobs.worker import Labs
from moe_core.settings import ROOT, Settings
from moe_core.silicon.constants import FRAMEWORKS
from moe_core.specs import Device, Dtype, Kernel, Lab, RunSpec
from tests.jobs.fake import labs, question, wait_for

HOLD_DATABASE = """
import time
from moe_core.settings import Settings
from moe_core.store.db import Store
store = Store.open(Settings.load())
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def fake_labs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moe_core.cli.ask.load_labs", labs)
    monkeypatch.setattr("moe_core.cli.service.load_labs", labs)


@pytest.fixture
def text(tmp_path: Path) -> Callable[..., str]:
    """A text file that tells the fake lab what to do; its name."""

    def write(**plan: Any) -> str:
        path = tmp_path / "plan.txt"
        path.write_text(question(**plan).text or "")
        return str(path)

    return write


@pytest.fixture
def other(settings: Settings) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start another process; whatever is left of it ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def say(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = say(capsys, *arguments, "--json")
    return code, json.loads(out)


# -- run -------------------------------------------------------------------------------------------

SMALL = ("run", "--batch", "1", "--seq", "16")


def test_run_prints_the_whole_answer(settings: Settings, capsys: pytest.CaptureFixture[str]):
    code, answer = run_json(capsys, *SMALL, "--experts", "8", "--top-k", "2", "--shared", "1")
    assert code == 0
    assert (settings.runs_dir / answer["run_id"]).is_dir()
    assert answer["bundle"] == str(settings.runs_dir / answer["run_id"])
    assert set(answer["bits_per_byte"]) == {"dense", "carved", "random", "oracle"}
    assert (
        set(answer["prefill_s"])
        == set(answer["decode_s"])
        == set(answer["peak_bytes"])
        == {"dense", "carved"}
    )
    assert answer["decisions"] == 16 * 2  # one layer in the fake
    assert answer["device"]
    assert answer["reused"] is False


def test_the_same_question_again_is_reused(settings: Settings, capsys: pytest.CaptureFixture[str]):
    _, first = run_json(capsys, *SMALL)
    _, again = run_json(capsys, *SMALL)
    assert (again["reused"], again["run_id"], again["created"]) == (True, first["run_id"], first["created"])


def test_run_in_words(settings: Settings, capsys: pytest.CaptureFixture[str]):
    code, out, err = say(capsys, *SMALL)
    assert code == 0
    assert err == ""
    for word in ("dense 1.90 bits per byte", "carved 2.40", "100 ms", "64 router decisions over 16 tokens"):
        assert word in out, word


def test_names_are_accepted_in_any_case(settings: Settings, capsys: pytest.CaptureFixture[str]):
    code, answer = run_json(
        capsys, *SMALL, "--model", "Trained", "--lab", "BENCH", "--dtype", "FP32", "--device", "CPU"
    )
    assert code == 0
    assert "trained" in answer["bits_per_byte"]


def test_a_sweep_has_quality_alone(settings: Settings, capsys: pytest.CaptureFixture[str]):
    code, out, _ = say(capsys, *SMALL, "--lab", "topk_sweep")
    assert code == 0
    assert "quality" in out
    assert "prefill" not in out


def test_every_field_of_the_spec_has_an_option():
    command = next(command for command in COMMANDS if command.__name__ == "run")
    options = set(command.__annotations__) - {"as_json", "return", "text_file"}
    assert options == set(RunSpec.model_fields) - {"text", "training"}  # the command lab has that


def test_text_from_standard_input(settings: Settings, text: Callable[..., str]):
    with open(text(), "rb") as standard_input:
        done = subprocess.run(
            [sys.executable, "-c", "from moe_core.cli.ask import read_text; print(read_text('-'))"],
            stdin=standard_input, capture_output=True, text=True, cwd=ROOT, check=True,
        )  # fmt: skip
    assert done.stdout.strip() == question().text


# -- sentences and exit codes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("run", "--experts", "4", "--top-k", "5"), "top_k (5) must be at most experts (4)"),
        (("run", "--batch", "0"), "batch (0): input should be greater than or equal to 1"),
        (("run", "--seq", "1000000000"), "seq (1000000000): input should be less than or equal to 1024"),
        (("run", "--model", "mixtral"), "model (mixtral): input should be 'carved', 'grid' or 'trained'"),
        (("run", "--experts", "many"), "invalid value for '--experts': Input should be a valid integer"),
        (("run", "--no-such-option"), "no such option: --no-such-option"),
        (("no-such-command",), "no such command 'no-such-command'"),
        (("run", "--text-file", "/no/such/file"), "text_file (/no/such/file): cannot be read (No such file"),
        (("worker", "--name", "../x"), "name (../x): must be"),
    ],
)
def test_bad_input_is_one_sentence(
    settings: Settings, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
):
    code, out, err = say(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1
    code, answer = run_json(capsys, *arguments)
    assert code == 2
    assert answer["error"]["kind"] == "config"
    assert sentence in answer["error"]["message"]


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"\xff\xfe\x00binary", "must be text in UTF-8"),
        (b"a" * 1_000_001, "at most 1,000,000 bytes"),
        (b"a" * 200_001, "at most 200000 characters"),
        (b"", "at least 1 character"),
    ],
    ids=["binary", "huge", "long", "empty"],
)
def test_text_that_will_not_do(
    settings: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path, data: bytes, rule: str
):
    path = tmp_path / "text"
    path.write_bytes(data)
    code, _, err = say(capsys, "run", "--text-file", str(path))
    assert code == 2
    assert rule in err


@pytest.mark.parametrize(
    ("then", "code", "kind"),
    [
        ("infeasible", 3, "infeasible"),
        ("store", 4, "store"),
        ("memory", 3, "infeasible"),
        ("bug", 1, "moescope"),
    ],
)
def test_how_a_run_ends_is_in_the_exit_code(
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
    text: Callable[..., str],
    then: str,
    code: int,
    kind: str,
):
    found, answer = run_json(capsys, *SMALL, "--text-file", text(then=then))
    assert (found, answer["error"]["kind"], answer["error"]["exit_code"]) == (code, kind, code)


def test_out_of_time_is_130(settings: Settings, capsys: pytest.CaptureFixture[str], text: Callable[..., str]):
    code, _, err = say(capsys, *SMALL, "--text-file", text(steps=500), "--time-limit-s", "0.2")
    assert code == 130
    assert "time_limit_s (0.2) ran out" in err


def test_a_wrong_setting_is_one_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MOE_QUEUE_URL", "http://x")
    code, _, err = say(capsys, "runs")
    assert code == 2
    assert "MOE_QUEUE_URL (http://x): must start with redis://" in err


def test_without_a_command_help_is_shown(capsys: pytest.CaptureFixture[str]):
    code, out, err = say(capsys)
    assert code == 2
    for command in COMMANDS:
        assert called(command) in out + err


def test_every_command_speaks_json():
    assert [command.__name__ for command in COMMANDS if "as_json" not in command.__annotations__] == []


def test_our_own_mistakes_keep_their_traceback(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("moe_core.cli.ask.ask", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["run"])


def test_a_reader_who_left_is_no_error(settings: Settings):
    command = f"{sys.executable} -m moe_core runs --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert "Traceback" not in done.stderr


def test_help_is_light(settings: Settings):
    code = "import sys; from moe_core.cli import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not {"torch", "transformers", "streamlit", "duckdb"} & set(done.stdout.split())


def test_every_option_says_what_it_is_and_names_every_value():
    commands = cast(Any, typer.main.get_command(app)).commands
    shown = [(name, one) for name, command in commands.items() for one in command.params]
    silent = [(name, one.name) for name, one in shown if not one.help and not one.hidden]
    assert not silent
    said = {(name, one.name): one.help for name, one in shown}
    kinds: dict[str, Any] = {"lab": Lab, "dtype": Dtype, "device": Device, "kernel": Kernel}
    for option, kind in kinds.items():
        assert not [value for value in get_args(kind) if value not in said["run", option]], option
    assert not [name for name in rules.presets() if name not in said["decide", "preset"]]
    assert not [name for name in get_args(RuleName) if name not in said["decide", "rule"]]
    assert not [name for name in FRAMEWORKS if name not in said["predict", "framework"]]


# -- with a worker, and without --------------------------------------------------------------------


def test_a_live_worker_answers(
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
    other: Callable[..., "subprocess.Popen[str]"],
    monkeypatch: pytest.MonkeyPatch,
):
    def refuse() -> Labs:
        raise AssertionError("this process must not compute")

    monkeypatch.setattr("moe_core.cli.ask.load_labs", refuse)
    other("-m", "tests.jobs.fake")
    wait_for(lambda: heartbeat.held(settings.data_dir, "worker"), "a worker")
    code, answer = run_json(capsys, *SMALL)
    assert code == 0
    assert answer["run_id"]


def test_when_the_worker_dies_this_process_takes_over(
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
    other: Callable[..., "subprocess.Popen[str]"],
    text: Callable[..., str],
):
    worker = other("-m", "tests.jobs.fake")
    wait_for(lambda: heartbeat.held(settings.data_dir, "worker"), "a worker")

    def kill_when_running() -> None:  # however busy the machine is: a worker that has not begun loses nothing
        queue = JobQueue(settings)
        wait_for(lambda: any(job.status == "running" for job in queue.list_jobs()), "a run under way")
        queue.close()
        worker.kill()

    killer = threading.Thread(target=kill_when_running)
    killer.start()
    code, _ = run_json(capsys, *SMALL, "--text-file", text(steps=100))
    killer.join()
    assert code == 0
    queue = JobQueue(settings)
    assert queue.list_jobs()[0].attempts == 2
    queue.close()


@pytest.mark.parametrize("with_worker", [True, False])
def test_ctrl_c_cancels(
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
    other: Callable[..., "subprocess.Popen[str]"],
    text: Callable[..., str],
    with_worker: bool,
):
    if with_worker:
        other("-m", "tests.jobs.fake")
        wait_for(lambda: heartbeat.held(settings.data_dir, "worker"), "a worker")
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    code, _, err = say(capsys, *SMALL, "--text-file", text(steps=1000))
    assert code == 130
    assert "cancelled from the keyboard" in err
    queue = JobQueue(settings)
    wait_for(lambda: queue.list_jobs()[0].status == "cancelled", "the cancelled job")
    queue.close()


def test_a_second_worker_says_so(settings: Settings, capsys: pytest.CaptureFixture[str]):
    with heartbeat.hold(settings.data_dir, "worker", "v1"):
        code, _, err = say(capsys, "worker")
    assert code == 4
    assert "another worker" in err


def test_a_worker_for_a_further_device(settings: Settings, capsys: pytest.CaptureFixture[str]):
    with heartbeat.hold(settings.data_dir, "worker", "v1"):
        code, answer = run_json(capsys, "worker", "--name", "worker-1", "--supervised", "--grace-s", "0")
    assert (code, answer) == (0, {"worker": "worker-1", "performed": 0})


def test_the_bar_is_drawn_on_a_terminal_and_wiped(monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Bar() as bar:
        bar.draw("measure", 0.5, 2.6)
    drawn = terminal.getvalue()
    assert "[###############...............]  50% measure, 3 s left" in drawn
    assert drawn.endswith("\r\x1b[K")


# -- runs, ingest, serve, doctor -------------------------------------------------------------------


def test_no_runs_yet(settings: Settings, capsys: pytest.CaptureFixture[str]):
    assert run_json(capsys, "runs") == (0, {"runs": [], "problems": []})
    assert say(capsys, "runs")[1] == "no runs yet\n"


def test_runs_newest_first_and_a_corrupt_one_named(
    settings: Settings, capsys: pytest.CaptureFixture[str], bundle_dir: Callable[..., Path]
):
    for day in (1, 3, 2):
        bundle_dir(RunSpec(batch=1, seq=16, seed=day), layers=1, created=datetime(2026, 1, day, tzinfo=UTC))
    broken = settings.runs_dir / ("0" * 16)
    broken.mkdir()
    code, answer = run_json(capsys, "runs", "--limit", "2")
    assert code == 0
    assert [run["created"][:10] for run in answer["runs"]] == ["2026-01-03", "2026-01-02"]
    assert answer["runs"][0]["bits_per_byte"]["dense"] == 1.9
    assert [str(broken) in problem for problem in answer["problems"]] == [True]
    _, out, _ = say(capsys, "runs")
    assert len(out.splitlines()) == 1 + 3 + 1


def test_ingest_fills_the_database_and_rebuild_fills_it_again(
    settings: Settings, capsys: pytest.CaptureFixture[str], bundle_dir: Callable[..., Path]
):
    run_id = bundle_dir(RunSpec(batch=1, seq=16), layers=1).name
    assert run_id in run_json(capsys, "ingest")[1]["added"]
    assert run_json(capsys, "ingest")[1]["added"] == []
    assert run_id in run_json(capsys, "ingest", "--rebuild")[1]["added"]


def test_beside_a_web_process_runs_works_and_ingest_says_why_not(
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
    bundle_dir: Callable[..., Path],
    other: Callable[..., "subprocess.Popen[str]"],
):
    run_id = bundle_dir(RunSpec(batch=1, seq=16), layers=1).name
    holder = other("-c", HOLD_DATABASE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert run_json(capsys, "runs")[1]["runs"][0]["run_id"] == run_id
    code, answer = run_json(capsys, "ingest")
    assert (code, answer["error"]["kind"]) == (4, "store")
    assert "process" in answer["error"]["message"]


def test_serve_becomes_streamlit(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").touch()
    called: list[list[str]] = []
    monkeypatch.setattr("moe_core.cli.service.ROOT", tmp_path)
    monkeypatch.setattr("os.execv", lambda _, command: called.append(command))
    monkeypatch.chdir(tmp_path)
    code, answer = run_json(capsys, "serve", "--port", "8600")
    assert (code, answer["address"]) == (0, "http://localhost:8600")
    assert called[0][1:] == [
        "-m",
        "streamlit",
        "run",
        str(tmp_path / "app" / "main.py"),
        "--server.port",
        "8600",
    ]


def test_serve_needs_the_app(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("moe_core.cli.service.ROOT", tmp_path)
    assert main(["serve"]) == 2


def test_doctor_reports_every_part(settings: Settings, capsys: pytest.CaptureFixture[str]):
    with heartbeat.hold(settings.data_dir, "worker", "v1") as pulse:
        pulse.say(phase="idle", device="Fake CPU")
        code, answer = run_json(capsys, "doctor")
    assert code == 0
    assert answer["packages"]["torch"]
    assert "problem" not in answer["device"]
    assert answer["data"]["directory"] == str(settings.data_dir)
    assert answer["data"]["private"] is True
    assert answer["data"]["free_bytes"] > 0
    assert answer["queue"] == {"where": str(settings.queue_file), "queued": 0, "running": 0}
    (worker,) = answer["worker"]["workers"]
    assert (worker["state"], worker["pid"], worker["device"]) == ("idle", os.getpid(), "Fake CPU")


def test_doctor_in_words_says_what_is_broken(settings: Settings, capsys: pytest.CaptureFixture[str]):
    settings.queue_file.write_bytes(b"not a database" * 100)
    code, out, _ = say(capsys, "doctor")
    assert code == 0
    assert "the queue cannot be used: file is not a database" in out
    assert "worker    none yet (managed)" in out


def test_doctor_keeps_the_password_of_the_queue(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def refuse(_: Settings) -> JobQueue:
        raise ConfigError("MOE_QUEUE_URL: no")

    monkeypatch.setenv("MOE_QUEUE_URL", "redis://user:secret@host:6379/0")
    monkeypatch.setattr("moe_core.cli.health.JobQueue", refuse)
    assert "secret" not in say(capsys, "doctor")[1]
