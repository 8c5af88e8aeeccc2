"""`run`: ask one question and print its answer. The same spec as the page; no web server needed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from moe_core import errors, inputs
from moe_core.cli.output import Json, answer, one_of
from moe_core.errors import CancelledError, ConfigError, MoEScopeError
from moe_core.jobs import heartbeat
from moe_core.jobs.heartbeat import TRAINING, WORKER
from moe_core.jobs.job import Job
from moe_core.jobs.queue import JobQueue
from moe_core.jobs.worker import Worker, load_experiments, load_labs
from moe_core.runs import bundle
from moe_core.runs.bundle import Bundle
from moe_core.settings import Settings
from moe_core.specs import Device, Dtype, Kernel, Lab, RunSpec
from moe_core.units import quantity, significant

POLL_S = 0.1
TEXT_BYTES = 1_000_000  # enough for any text the spec allows
_D = RunSpec()


def run(
    experts: Annotated[int, typer.Option(help="Routed experts a layer.")] = _D.experts,
    top_k: Annotated[int, typer.Option(help="Experts a token is sent to.")] = _D.top_k,
    shared: Annotated[int, typer.Option(help="Shared experts, which see every token.")] = _D.shared,
    batch: Annotated[int, typer.Option(help="Sequences at once.")] = _D.batch,
    seq: Annotated[int, typer.Option(help="Tokens (bytes) a sequence.")] = _D.seq,
    decode_steps: Annotated[int, typer.Option(help="Tokens decoded after the prompt.")] = _D.decode_steps,
    model: Annotated[str, typer.Option(help="carved (from the dense model) or trained.")] = _D.model,
    lab: Annotated[str, typer.Option(help=one_of(Lab))] = _D.lab,
    dtype: Annotated[str, typer.Option(help=one_of(Dtype))] = _D.dtype,
    device: Annotated[str, typer.Option(help=one_of(Device))] = _D.device,
    kernel: Annotated[str, typer.Option(help=one_of(Kernel))] = _D.kernel,
    repeats: Annotated[int, typer.Option(help="Timed repetitions.")] = _D.repeats,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = _D.seed,
    time_limit_s: Annotated[float, typer.Option(help="Seconds after which the run stops.")] = _D.time_limit_s,
    text_file: Annotated[
        str | None, typer.Option(help="Your own text, UTF-8 ('-' is standard input), not the corpus.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the test model, dense and as the mixture you ask for, and record every routing decision."""
    spec = RunSpec.parse(
        {
            "experts": experts, "top_k": top_k, "shared": shared, "batch": batch, "seq": seq,
            "decode_steps": decode_steps, "repeats": repeats, "seed": seed, "time_limit_s": time_limit_s,
            "model": model.lower(), "lab": lab.lower(), "dtype": dtype.lower(),
            "device": device.lower(), "kernel": kernel.lower(),
            "text": None if text_file is None else read_text(text_file),
        }
    )  # fmt: skip
    settings = Settings.load()
    job = ask(settings, spec)
    found = bundle.read(settings.runs_dir / finished(job))
    answer(summary(found, spec, reused=job.reused), as_json, describe(found, spec, reused=job.reused))


def read_text(name: str, field: str = "text_file") -> str:
    """The text of a file, or of standard input. Raises ConfigError when there is none or it is not text."""
    what = inputs.named(field, name)
    if name != "-":
        return inputs.text(inputs.read(name, what, TEXT_BYTES), what)
    try:
        with open(0, "rb", closefd=False) as file:
            data = file.read(TEXT_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{what}: cannot be read ({error.strerror})") from error
    if len(data) > TEXT_BYTES:
        raise ConfigError(f"{what}: must have at most {TEXT_BYTES:,} bytes")
    return inputs.text(data, what)


def ask(settings: Settings, spec: RunSpec) -> Job:
    """Have it answered: by a live worker, else in this process. Blocks, with progress on stderr.

    Raises CancelledError on Ctrl-C, after withdrawing the question.
    """
    queue = JobQueue(settings)
    job = queue.submit(spec)
    try:
        with Bar() as bar:
            while job.active:
                alive = any(vital.alive for vital in heartbeat.workers(settings.data_dir))
                job = _watch(queue, job, bar) if alive else _perform(settings, job, bar)
    except KeyboardInterrupt:
        queue.cancel(job.job_id)
        raise CancelledError("cancelled from the keyboard") from None
    finally:
        queue.close()
    return job


def finished(job: Job) -> str:
    """The run id of a job that is done; raises the error with which it ended otherwise."""
    if job.status == "done" and job.run_id:
        return job.run_id
    kind = getattr(errors, job.failure or "", MoEScopeError)
    raise kind(job.error or f"the run ended as {job.status}")


def _watch(queue: JobQueue, job: Job, bar: Bar) -> Job:
    """One look at a job that a worker has, or will have."""
    bar.draw(job.stage, job.fraction, job.eta_s)
    time.sleep(POLL_S)
    return queue.get(job.job_id) or job


def _perform(settings: Settings, job: Job, bar: Bar) -> Job:
    """Be the worker for this one job, unless another process has just become one."""
    bar.draw("starting", 0.0, None)
    try:
        load = load_labs if job.lane == "bench" else load_experiments
        name = WORKER if job.lane == "bench" else TRAINING
        return Worker(settings, name=name, load=load, on_progress=bar.draw).run_one(job.spec)
    except heartbeat.TakenError:
        return job


class Bar:
    """A progress bar on stderr, where there is a terminal to draw it; it leaves no trace."""

    WIDTH = 30

    def __init__(self) -> None:
        self._visible = sys.stderr.isatty()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._write("\r\x1b[K")

    def draw(self, stage: str, fraction: float, eta_s: float | None) -> None:
        """Show the stage, how much is done, and the seconds left."""
        full = round(fraction * self.WIDTH)
        left = "" if eta_s is None else f", {eta_s:.0f} s left"
        self._write(f"\r\x1b[K[{'#' * full}{'.' * (self.WIDTH - full)}] {fraction:4.0%} {stage}{left}")

    def _write(self, text: str) -> None:
        if self._visible:
            print(text, end="", file=sys.stderr, flush=True)


def summary(found: Bundle, spec: RunSpec, *, reused: bool) -> dict[str, Any]:
    """The answer as plain values: seconds, bytes, bits per byte. The mixture goes by its own name."""
    manifest = found.manifest
    values: dict[str, Any] = {name: _named(value, spec.model) for name, value in manifest.summary.items()}
    return {
        "run_id": manifest.run_id,
        "question_id": manifest.question_id,
        "lab": spec.lab,
        **{name: manifest.provenance.get(name) for name in ("device", "device_kind", "dtype", "kernel")},
        **values,
        "duration_s": manifest.duration_s,
        "stages": manifest.stages,
        **{name: manifest.provenance.get(name) for name in ("busy", "waiting")},
        "created": manifest.created.isoformat(),
        "bundle": str(found.path),
        "reused": reused,
    }


def _named(value: Any, model: str) -> Any:
    """{"dense": ..., "moe": ...} with the mixture under its name, "carved" or "trained"."""
    if not isinstance(value, dict):
        return value
    return {model if name == "moe" else name: part for name, part in value.items()}


def describe(found: Bundle, spec: RunSpec, *, reused: bool) -> list[str]:
    """The answer as lines for a reader."""
    values = summary(found, spec, reused=reused)
    source = "answered from the store" if reused else f"measured in {quantity(values['duration_s'], 's')}"
    where = f"{values['device']}, {values['dtype']}, kernel {values['kernel']}"
    lines = [f"run       {values['run_id']}  ({source})", f"device    {where}"]
    lines += _line("quality", values.get("bits_per_byte"), lambda bits: f"{significant(bits)} bits per byte")
    lines += _line("prefill", values.get("prefill_s"), lambda seconds: quantity(seconds, "s"))
    lines += _line("decode", values.get("decode_s"), lambda seconds: f"{quantity(seconds, 's')} a step")
    lines += _line("memory", values.get("peak_bytes"), lambda size: f"{quantity(size, 'B')} at the peak")
    if values.get("busy"):
        others, cores = values["busy"]["others"], values["busy"]["cores"]
        lines.append(f"machine   other programs used {others:.2g} of {cores} cores meanwhile")
    recorded = f"{values.get('decisions', 0):,} router decisions over {values.get('tokens', 0):,} tokens"
    return [*lines, f"recorded  {recorded}", f"bundle    {values['bundle']}"]


def _line(title: str, parts: dict[str, float] | None, show: Callable[[float], str]) -> list[str]:
    if not parts:
        return []
    return [
        f"{title:<9} "
        + ", ".join(f"{name} {show(value)}" for name, value in parts.items() if value is not None)
    ]
