"""`doctor`: what is installed, what it runs on, and whether the parts see one another."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit

import psutil

from moe_core.cli.output import Json, answer
from moe_core.errors import MoEScopeError
from moe_core.jobs import heartbeat
from moe_core.jobs.heartbeat import Vital
from moe_core.jobs.queue import JobQueue
from moe_core.settings import Settings
from moe_core.units import quantity
from moe_core.version import __version__, code_version, commit

PACKAGES = ("torch", "transformers", "streamlit", "duckdb", "huey", "numpy", "pandas", "pyarrow")


def doctor(as_json: Json = False) -> None:
    """Report versions, device, memory, disk, queue and worker. A part that is broken says why."""
    settings = Settings.load()
    values: dict[str, Any] = {
        "moescope": {"version": __version__, "code_version": code_version(), "commit": commit()},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": _device(),
        "memory": {
            "free_bytes": psutil.virtual_memory().available,
            "total_bytes": psutil.virtual_memory().total,
        },
        "data": _data(settings),
        "queue": _queue(settings),
        "worker": {
            "mode": settings.worker,
            "workers": [_worker(v) for v in heartbeat.workers(settings.data_dir)],
        },
    }
    answer(values, as_json, _lines(values))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device() -> dict[str, Any]:
    try:
        from moe_core.device import describe, free_memory, pick
    except (ImportError, OSError) as error:  # a torch that does not fit this machine
        return {"problem": str(error)}
    device = pick("auto")
    return {**describe(device)._asdict(), "free_bytes": free_memory(device)}


def _data(settings: Settings) -> dict[str, Any]:
    return {
        "directory": str(settings.data_dir),
        "private": settings.data_dir.stat().st_mode & 0o077 == 0,
        "free_bytes": shutil.disk_usage(settings.data_dir).free,
    }


def _queue(settings: Settings) -> dict[str, Any]:
    where = urlsplit(settings.queue_url).hostname if settings.queue_url else str(settings.queue_file)
    try:
        queue = JobQueue(settings)
        jobs = queue.list_jobs()
        queue.close()
    except MoEScopeError as error:
        return {"where": where, "problem": str(error)}
    return {"where": where} | {
        status: sum(job.status == status for job in jobs) for status in ("queued", "running")
    }


def _worker(vital: Vital) -> dict[str, Any]:
    beat = vital.beat
    state = "dead" if not vital.alive else "stuck" if vital.hung or vital.overdue else beat.phase
    return {
        **beat.model_dump(include={"name", "pid", "host", "device", "job_id", "code_version"}),
        "state": state,
        "beat_age_s": round(vital.age_s, 1),
    }


def _lines(values: dict[str, Any]) -> list[str]:
    moescope, data, memory, queue = (values[name] for name in ("moescope", "data", "memory", "queue"))
    packages = ", ".join(f"{name} {number or 'missing'}" for name, number in values["packages"].items())
    private = "private" if data["private"] else "readable by other users: chmod 700"
    commit_text = moescope["commit"] or "no git"
    lines = [
        f"moescope  {moescope['version']} ({commit_text}), code {moescope['code_version']}",
        f"python    {values['python']} on {values['platform']}",
        f"packages  {packages}",
        f"device    {_device_text(values['device'])}",
        f"memory    {quantity(memory['free_bytes'], 'B')} free of {quantity(memory['total_bytes'], 'B')}",
        f"data      {data['directory']} ({private}), {quantity(data['free_bytes'], 'B')} free",
        f"queue     {', '.join(f'{name} {value}' for name, value in queue.items())}",
    ]
    return lines + _worker_lines(values["worker"])


def _device_text(device: dict[str, Any]) -> str:
    if "problem" in device:
        return f"none usable: {device['problem']}"
    free, total = (quantity(device[name], "B") for name in ("free_bytes", "memory_bytes"))
    return f"{device['name']} ({device['kind']}), {free} free of {total}"


def _worker_lines(worker: dict[str, Any]) -> list[str]:
    lines = []
    for one in worker["workers"]:
        device = one["device"] or "device not known yet"
        lines.append(f"worker    {one['name']} {one['state']} (process {one['pid']}), {device}")
    return lines or [f"worker    none yet ({worker['mode']})"]
