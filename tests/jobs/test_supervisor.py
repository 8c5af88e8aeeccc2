"""The web process keeps one worker alive, whatever happens to either."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from moe_core.errors import StoreError
from moe_core.jobs import heartbeat, supervisor
from moe_core.jobs.heartbeat import TRAINING, Vital
from moe_core.jobs.queue import JobQueue
from moe_core.jobs.supervisor import Supervisor, cap, supervise
from moe_core.settings import Settings
from moe_core.specs import RunSpec, Training
from moe_core.version import code_version
from tests.jobs.fake import question, release

FAKE = (sys.executable, "-m", "tests.jobs.fake", "--supervised")
BROKEN = (sys.executable, "-c", "import os; print('cannot start', flush=True); os._exit(3)")


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Quick looks; one entry for each that was taken."""
    taken: list[None] = []
    tick = Supervisor.tick

    def look(self: Supervisor) -> None:
        tick(self)
        taken.append(None)

    monkeypatch.setattr(supervisor, "TICK_S", 0.02)
    monkeypatch.setattr(Supervisor, "tick", look)
    return taken


@pytest.fixture(autouse=True)
def no_stray_workers(settings: Settings) -> Iterator[None]:
    yield
    vital = heartbeat.read(settings.data_dir)
    if vital and vital.alive and vital.beat.pid != os.getpid():
        os.kill(vital.beat.pid, signal.SIGKILL)
        pytest.fail("a worker was left behind")


async def more(looks: list[None], count: int = 10) -> None:
    """Wait until the supervisor has looked so many times more."""
    end = len(looks) + count
    await until(lambda: len(looks) >= end, f"{count} looks")


async def until(condition: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        await asyncio.sleep(0.01)


async def idle_worker(settings: Settings, other_than: int = 0) -> Vital:
    """The worker, once it is up and its signal handlers are. One that has just begun has not spoken yet: what
    stands there is then still of the process `other_than`."""

    def up() -> bool:
        vital = heartbeat.read(settings.data_dir)
        new = vital is not None and vital.beat.pid != other_than
        return vital is not None and new and vital.alive and vital.beat.phase == "idle"

    await until(up, "a worker")
    vital = heartbeat.read(settings.data_dir)
    assert vital is not None
    return vital


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await body()

    asyncio.run(main())


def test_it_starts_a_worker_and_stops_it(settings: Settings):
    async def body() -> None:
        async with supervise(settings, FAKE):
            vital = await idle_worker(settings)
            assert vital.beat.supervised
        assert not heartbeat.held(settings.data_dir, "worker")
        assert not psutil.pid_exists(vital.beat.pid)

    run(body)


def test_a_killed_worker_is_back_and_its_run_is_done(settings: Settings):
    async def body() -> None:
        queue = JobQueue(settings)
        async with supervise(settings, FAKE):
            first = await idle_worker(settings)
            job = queue.submit(question(held=True))
            await until(lambda: getattr(queue.get(job.job_id), "stage", "") == "measure", "a run")
            os.kill(first.beat.pid, signal.SIGKILL)
            release(settings)
            await until(lambda: getattr(queue.get(job.job_id), "status", "") == "done", "the answer")
            found = queue.get(job.job_id)
            assert found is not None
            assert found.attempts == 2
        queue.close()

    run(body)


def test_it_adopts_the_worker_of_a_web_process_that_died(settings: Settings, looks: list[None]):
    async def body() -> None:
        before = await asyncio.create_subprocess_exec(*FAKE, stderr=asyncio.subprocess.DEVNULL)
        orphan = await idle_worker(settings)
        async with supervise(settings, FAKE):
            await more(looks)
            vital = heartbeat.read(settings.data_dir)
            assert vital is not None
            assert vital.beat.pid == orphan.beat.pid == before.pid
        assert await before.wait() == 0

    run(body)


def test_a_worker_started_by_hand_outlives_it(settings: Settings, looks: list[None]):
    async def body() -> None:
        own = await asyncio.create_subprocess_exec(*FAKE[:-1], stderr=asyncio.subprocess.DEVNULL)
        await idle_worker(settings)
        async with supervise(settings, FAKE):
            await more(looks)
        assert heartbeat.held(settings.data_dir, "worker")
        own.kill()
        await own.wait()

    run(body)


def test_a_worker_of_older_code_is_replaced(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    async def body() -> None:
        old = await asyncio.create_subprocess_exec(*FAKE, stderr=asyncio.subprocess.DEVNULL)
        await idle_worker(settings)
        monkeypatch.setattr(supervisor, "code_version", lambda: "newer")
        async with supervise(settings, FAKE):
            assert await old.wait() == 0
            assert (await idle_worker(settings)).beat.pid != old.pid

    run(body)


def test_a_stuck_worker_is_killed_and_replaced(settings: Settings):
    async def body() -> None:
        async with supervise(settings, FAKE):
            stuck = await idle_worker(settings)
            os.kill(stuck.beat.pid, signal.SIGSTOP)
            process = psutil.Process(stuck.beat.pid)
            await until(lambda: process.status() == psutil.STATUS_STOPPED, "a stuck worker")
            os.utime(settings.data_dir / "worker.json", (0, 0))  # silent for long
            await until(lambda: not psutil.pid_exists(stuck.beat.pid), "the end of the stuck worker")
            await idle_worker(settings, other_than=stuck.beat.pid)

    run(body)


def test_a_worker_that_cannot_start_is_tried_ever_more_slowly(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, looks: list[None]
):
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0.0, 0.2, 3600.0))

    async def body() -> None:
        log = settings.data_dir / "worker.log"
        async with supervise(settings, BROKEN):
            await until(lambda: log.exists() and log.read_text().count("cannot start") == 3, "three tries")
            await more(looks)
        assert log.read_text().count("cannot start") == 3  # at once, at once again, and after 0.2 s

    run(body)


def test_a_second_web_process_is_refused(settings: Settings):
    async def body() -> None:
        with pytest.raises(StoreError, match="another web"):
            async with supervise(settings, FAKE):
                pytest.fail("two web processes")

    with heartbeat.hold(settings.data_dir, "web", "v1"):
        run(body)


def test_an_external_worker_is_nobodys_business_here(settings: Settings):
    async def body() -> None:
        async with supervise(settings.model_copy(update={"worker": "external"}), FAKE):
            assert "supervisor" not in {task.get_name() for task in asyncio.all_tasks()}
            assert not heartbeat.held(settings.data_dir, "worker")
            assert not (settings.data_dir / "worker.log").exists()

    run(body)


def test_the_worker_gets_the_settings_the_web_process_has(settings: Settings, tmp_path: Path):
    elsewhere = settings.model_copy(update={"data_dir": tmp_path / "elsewhere"}).prepare()

    async def body() -> None:
        async with supervise(elsewhere, FAKE):
            await idle_worker(elsewhere)

    run(body)


def test_a_full_disk_does_not_end_the_watch(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    ticks: list[int] = []

    def tick(self: Supervisor) -> None:
        ticks.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Supervisor, "tick", tick)

    async def body() -> None:
        async with supervise(settings, FAKE):
            await until(lambda: len(ticks) > 3, "four looks")

    run(body)


# -- the worker for experiments --------------------------------------------------------------------


def training(**plan: object) -> RunSpec:
    """An experiment that the fake worker performs."""
    text = question(**plan).text  # type: ignore[arg-type]
    return RunSpec(lab="collapse", training=Training(), text=text)


def test_a_worker_for_experiments_is_there_only_when_one_waits(settings: Settings, looks: list[None]):
    async def body() -> None:
        queue = JobQueue(settings)
        async with supervise(settings, FAKE):
            await idle_worker(settings)
            bench = queue.submit(question())
            await until(
                lambda: getattr(queue.get(bench.job_id), "status", "") == "done", "the bench's answer"
            )
            await more(looks)
            assert heartbeat.read(settings.data_dir, TRAINING) is None
            job = queue.submit(training(held=True))
            await until(lambda: getattr(queue.get(job.job_id), "stage", "") == "measure", "the training")
            running = queue.get(job.job_id)
            assert running is not None
            assert running.worker == TRAINING
            other = queue.submit(question(steps=2))  # the bench's worker is not held up
            await until(lambda: getattr(queue.get(other.job_id), "status", "") == "done", "another answer")
            release(settings)
            await until(lambda: getattr(queue.get(job.job_id), "status", "") == "done", "the experiment")
        assert not heartbeat.held(settings.data_dir, TRAINING)
        queue.close()

    run(body)


def test_a_worker_for_experiments_ends_when_it_is_idle_for_long(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FAKE_IDLE_S", "0.3")

    async def body() -> None:
        queue = JobQueue(settings)
        command = (*FAKE, "--lane", "training", "--name", TRAINING)
        job = queue.submit(training())
        own = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
        with heartbeat.hold(settings.data_dir, "web", "v1"):
            assert await own.wait() == 0
        assert getattr(queue.get(job.job_id), "status", "") == "done"
        queue.close()

    run(body)


def test_the_log_is_capped_in_place(tmp_path: Path):
    log = tmp_path / "worker.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"a" * 100)
        cap(log, 200)
        assert log.stat().st_size == 100
        writer.write(b"b" * 150)
        cap(log, 200)
        writer.write(b"c")
    assert log.read_bytes() == b"c"
    assert len((tmp_path / "worker.log.1").read_bytes()) == 250


def test_the_code_version_is_this_codes(settings: Settings):
    async def body() -> None:
        async with supervise(settings, FAKE):
            assert (await idle_worker(settings)).beat.code_version == code_version()

    run(body)
