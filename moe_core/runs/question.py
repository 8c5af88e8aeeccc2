"""Question: a spec made concrete. Device, dtype, text and architectures: all checked, nothing loaded."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import torch

from moe_core.device import DTYPES, DeviceInfo, describe, dtype_name, pick, resolve_dtype
from moe_core.formats import Format
from moe_core.nn.tuning import Tuning
from moe_core.runs import admission, models, text, tuning
from moe_core.runs.footprint import Shape
from moe_core.runs.text import Sample
from moe_core.runs.timing import Teams, TimedWork
from moe_core.specs import Architecture, RunSpec


class Kernels(NamedTuple):
    """The kernels that compute the experts, "auto" resolved."""

    prefill: str
    decode: str


class Question(NamedTuple):
    """What a lab needs to know before it computes anything."""

    spec: RunSpec
    asked: datetime
    device: torch.device
    dtype: torch.dtype
    info: DeviceInfo
    dense: Architecture
    moe: Architecture
    sample: Sample
    kernels: Kernels
    teams: Teams
    tuning: Tuning  # by which dtype, kernels and threads were chosen, where the spec left them open

    @property
    def form(self) -> Format:
        """The dtype, as `perf` calls it."""
        return "bf16" if dtype_name(self.dtype) == "bf16" else "fp32"

    @property
    def tokens(self) -> int:
        """Tokens of one forward pass."""
        return len(self.sample.domains_B) * self.sample.seq

    @property
    def start(self) -> int:
        """Position of the first decoded token: right after the prompt, where the model has room there."""
        return min(self.spec.seq, self.dense.max_positions - self.spec.decode_steps)

    @property
    def shape(self) -> Shape:
        """What memory is predicted for."""
        positions = max(self.spec.seq, self.start + self.spec.decode_steps)
        return Shape(self.spec.batch, self.spec.seq, positions)

    def need(self) -> admission.Need:
        """The memory that has to be free."""
        return admission.need(self.dense, self.moe, self.shape, self.form, self.kernels.prefill)

    def work(self) -> TimedWork:
        """Prompt and answer, on the device."""
        window_BW = torch.from_numpy(self.sample.window_BW).to(self.device, torch.int64)
        answer_BK = window_BW[:, self.start : self.start + self.spec.decode_steps]
        return TimedWork(
            window_BW[:, : self.spec.seq].contiguous(), answer_BK.contiguous(), self.start, self.teams
        )


def resolve(spec: RunSpec) -> Question:
    """Raises ConfigError for a device, dtype, kernel or mixture that cannot be had here."""
    device = pick(spec.device)
    known = tuning.known(device)
    moe = models.mixture_architecture(spec)
    dtype = dtype_for(spec, device, known)
    kernels = (
        models.kernel_for(spec, moe, device, dtype, spec.batch * length, known) for length in (spec.seq, 1)
    )
    dense = models.architecture(models.dense_paths(spec)["dense"])
    teams = (tuning.threads(known, dtype_name(dtype), dense, spec.batch * length) for length in (spec.seq, 1))
    return Question(
        spec=spec,
        asked=datetime.now(UTC),
        device=device,
        dtype=dtype,
        info=describe(device),
        dense=dense,
        moe=moe,
        sample=text.read(spec),
        kernels=Kernels(*kernels),
        teams=Teams(*teams),
        tuning=known,
    )


def dtype_for(spec: RunSpec, device: torch.device, known: Tuning) -> torch.dtype:
    """The dtype asked for. "auto" on a CPU: bf16 where the question's own passes take less time in it.

    Raises ConfigError for an unknown one.
    """
    if spec.dtype != "auto" or device.type != "cpu":
        return resolve_dtype(spec.dtype, device)
    dense = models.architecture(models.dense_paths(spec)["dense"])
    models_here = (dense, models.mixture_architecture(spec))
    seconds = {name: tuning.seconds(known, name, spec, models_here) for name in DTYPES}
    plain, half = seconds["fp32"], seconds["bf16"]
    return torch.bfloat16 if plain is not None and half is not None and half < plain else torch.float32
