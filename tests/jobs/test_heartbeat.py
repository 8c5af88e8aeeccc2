"""Liveness is the kernel's word; the beat is the process's own."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from moe_core.errors import StoreError
from moe_core.jobs import heartbeat
from tests.jobs.fake import wait_for

HOLDER = """
import sys, time
from pathlib import Path
from moe_core.jobs import heartbeat
with heartbeat.hold(Path(sys.argv[1]), "worker", "v1") as pulse:
    pulse.say(phase="running", job_id="j")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_nobody_yet(tmp_path: Path):
    assert not heartbeat.held(tmp_path, "worker")
    assert heartbeat.read(tmp_path) is None
    assert heartbeat.workers(tmp_path) == []


def test_one_holder_at_a_time_and_the_lock_ends_with_it(tmp_path: Path):
    with heartbeat.hold(tmp_path, "worker", "v1"):
        assert heartbeat.held(tmp_path, "worker")
        with (
            pytest.raises(StoreError, match=rf"another worker \(process {os.getpid()}\)"),
            heartbeat.hold(tmp_path, "worker", "v1"),
        ):
            pytest.fail("two holders")
    vital = heartbeat.read(tmp_path)
    assert vital is not None
    assert not vital.alive
    assert vital.beat.code_version == "v1"


def test_asking_does_not_keep_others_out(tmp_path: Path):
    with heartbeat.hold(tmp_path, "worker", "v1"):
        pass
    for _ in range(50):
        assert not heartbeat.held(tmp_path, "worker")
        with heartbeat.hold(tmp_path, "worker", "v1"):
            assert heartbeat.held(tmp_path, "worker")


def test_a_killed_process_is_dead_at_once(tmp_path: Path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        vital = heartbeat.read(tmp_path)
        assert vital is not None
        assert vital.alive
        assert (vital.beat.pid, vital.beat.job_id) == (process.pid, "j")
        process.kill()
    assert not heartbeat.held(tmp_path, "worker")


def test_a_beat_makes_it_young_and_silence_makes_it_hung(tmp_path: Path):
    with heartbeat.hold(tmp_path, "worker", "v1") as pulse:
        old = time.time() - heartbeat.HUNG_S - 5
        os.utime(tmp_path / "worker.json", (old, old))
        vital = heartbeat.read(tmp_path)
        assert vital is not None
        assert vital.hung
        pulse.beat()
        vital = heartbeat.read(tmp_path)
        assert vital is not None
        assert not vital.hung


def test_the_thread_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.02)
    with heartbeat.hold(tmp_path, "worker", "v1") as pulse, pulse.beating():
        os.utime(tmp_path / "worker.json", (0, 0))
        wait_for(lambda: (tmp_path / "worker.json").stat().st_mtime > 0, "a beat")


def test_a_job_past_its_deadline_is_overdue(tmp_path: Path):
    with heartbeat.hold(tmp_path, "worker", "v1") as pulse:
        pulse.say(deadline=time.time() - 1)
        vital = heartbeat.read(tmp_path)
        assert vital is not None
        assert vital.overdue


def test_a_foreign_description_is_no_description(tmp_path: Path):
    (tmp_path / "worker.json").write_text('{"pid": "none of ours"}')
    assert heartbeat.read(tmp_path) is None
    assert heartbeat.workers(tmp_path) == []


def refuse(number: int) -> Callable[..., int]:
    def write(self: Path, *_: object) -> int:
        self.touch()  # a full disk still makes a name
        raise OSError(number, os.strerror(number))

    return write


def test_a_full_disk_does_not_end_a_worker_and_leaves_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with heartbeat.hold(tmp_path, "worker", "v1") as pulse:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_text", refuse(errno.ENOSPC))
            pulse.say(phase="running", job_id="j")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["worker.json", "worker.lock"]
        vital = heartbeat.read(tmp_path)
        assert vital is not None
        assert vital.beat.phase == "starting"
        pulse.say(device="cpu")  # there is room again: nothing said meanwhile is lost
        vital = heartbeat.read(tmp_path)
        assert vital is not None
        assert (vital.beat.phase, vital.beat.job_id, vital.beat.device) == ("running", "j", "cpu")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_worker_that_cannot_say_that_it_lives_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    monkeypatch.setattr(Path, "write_text", refuse(number))
    with (
        pytest.raises(StoreError, match=rf"worker\.json cannot be written: {os.strerror(number)}"),
        heartbeat.hold(tmp_path, "worker", "v1"),
    ):
        pytest.fail("held")
    assert [path.name for path in tmp_path.iterdir()] == ["worker.lock"]
    assert not heartbeat.held(tmp_path, "worker")
