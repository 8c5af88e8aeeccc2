"""Models: the shipped ones, and mixtures carved from the dense one. Kept between the runs of a worker."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError

from moe_core import grid
from moe_core.errors import ConfigError, StoreError
from moe_core.grid import Member
from moe_core.nn import calibration, carve, checkpoint
from moe_core.nn.calibration import LayerCalibration
from moe_core.nn.carve import Grouping
from moe_core.nn.experts import KERNELS, ON_CPU_ONLY, choose
from moe_core.nn.model import Decoder
from moe_core.nn.moe import MoE
from moe_core.nn.numerics import refuse_other_than_cpu
from moe_core.nn.reference_routers import with_oracle_router, with_random_router, with_top_k
from moe_core.nn.tuning import NEUTRAL, Tuning
from moe_core.runs import text, tuning
from moe_core.settings import DATA, MODELS, Settings
from moe_core.specs import Architecture, RunSpec

DENSE, TRAINED = MODELS / "scale-dense.safetensors", MODELS / "scale-moe.safetensors"
CACHE = DATA / "state" / "cache"
CALIBRATING = (8, 2, 256)  # batches, windows of each domain in one, bytes of a window
KEPT = 4  # carved mixtures, 16 MB each in bf16


@cache
def architecture(path: Path) -> Architecture:
    """The architecture of a shipped model, from its header."""
    return checkpoint.read_architecture(path)


def mixture_architecture(spec: RunSpec) -> Architecture:
    """The mixture that `spec` asks for, before anything is loaded. Raises ConfigError if there is none."""
    if spec.model == "grid":
        return architecture(_member(spec).path)
    if spec.model == "carved":
        return carve.architecture(architecture(DENSE), spec.experts, spec.top_k, spec.shared)
    trained = architecture(TRAINED)
    assert trained.experts is not None
    for field, has in (("experts", trained.experts.count), ("shared", trained.experts.shared)):
        if getattr(spec, field) != has:
            raise ConfigError(f"{field} ({getattr(spec, field)}): the trained mixture has {has}")
    return trained.model_copy(update={"experts": trained.experts.model_copy(update={"top_k": spec.top_k})})


def dense_paths(spec: RunSpec) -> dict[str, Path]:
    """The dense models that the mixture is held against: "dense", of equal total size, and, of mixtures that
    were trained alike, "dense_active", of equal active size."""
    if spec.model != "grid":
        return {"dense": DENSE}
    total, active = grid.twins(_member(spec))
    return {"dense": total.path, "dense_active": active.path}


def _member(spec: RunSpec) -> Member:
    """The shipped mixture of the grid that is asked for. Raises ConfigError, naming the nearest."""
    member = Member(spec.experts, spec.top_k, spec.shared)
    if member in grid.shipped():
        return member
    near = grid.nearest((spec.experts, spec.top_k, spec.shared))
    hint = (
        "none is shipped" if near is None else f"the nearest is {near.experts} / {near.top_k} / {near.shared}"
    )
    asked = f"{spec.experts} / {spec.top_k} / {spec.shared}"
    raise ConfigError(f"experts ({asked}): must be experts / top-k / shared of a trained mixture; {hint}")


@cache
def shipped(path: Path, device: torch.device, dtype: torch.dtype) -> Decoder:
    """A shipped model on `device`. Read-only: every run of this process shares it."""
    return checkpoint.load(path, device, dtype)


def mixture(spec: RunSpec, device: torch.device, dtype: torch.dtype) -> Decoder:
    """The mixture that `spec` asks for, its kernel set."""
    if spec.model == "trained":
        model = shipped(TRAINED, device, dtype)
    elif spec.model == "grid":
        model = shipped(_member(spec).path, device, dtype)
    else:
        model = _carved(spec.experts, spec.top_k, spec.shared, spec.seed, device, dtype)
    return with_kernel(with_top_k(model, spec.top_k), spec.kernel, tuning.known(device))


def routed(moe: Decoder, spec: RunSpec) -> dict[str, Decoder]:
    """The mixture under its own router, a random one and an oracle, by name.

    The reference routers weigh every expert 1, as carved models do: a trained one has none.
    """
    found = {"moe": moe}
    if spec.model == "carved":
        found |= {"random": with_random_router(moe, spec.seed), "oracle": with_oracle_router(moe)}
    known = next(module.tuning for module in moe.modules() if isinstance(module, MoE))
    return {name: with_kernel(model, spec.kernel, known) for name, model in found.items()}


def kernel_for(
    spec: RunSpec,
    moe: Architecture,
    device: torch.device,
    dtype: torch.dtype,
    tokens: int,
    known: Tuning = NEUTRAL,
) -> str:
    """The kernel that computes the experts of `moe` for `tokens` tokens at once: "auto" resolved.

    Raises ConfigError when there is no such kernel, or not on this device.
    """
    if spec.kernel not in KERNELS:
        raise ConfigError(f"kernel ({spec.kernel}) must be one of {', '.join(KERNELS)}")
    if spec.kernel in ON_CPU_ONLY:
        refuse_other_than_cpu(spec.kernel, device)
    if spec.kernel != "auto":
        return spec.kernel
    with torch.device("meta"):
        assert moe.experts is not None
        weights = MoE(moe.experts, moe.hidden, moe.gated).to(dtype).weights._replace(tuning=known)
    return choose(device, dtype, tokens * moe.experts.top_k, weights, gradients=False)


def with_kernel(model: Decoder, kernel: str, known: Tuning = NEUTRAL) -> Decoder:
    """`model`, computing its experts with `kernel`, a name in `KERNELS`, by what is known of the device."""
    for module in model.modules():
        if isinstance(module, MoE):
            module.kernel, module.tuning = kernel, known
    return model


@lru_cache(maxsize=KEPT)
def _carved(
    experts: int, top_k: int, shared: int, seed: int, device: torch.device, dtype: torch.dtype
) -> Decoder:
    """Carved on the host in fp32: the same groups of neurons for every device, dtype and top-k."""
    dense = shipped(DENSE, torch.device("cpu"), torch.float32)
    groups = _grouped(experts, shared, seed)
    model = carve.carve(dense, calibrated(), experts, top_k, shared, seed, groups)
    return cast(copy.deepcopy(model).to(device), dtype)  # a copy: carving shares tensors with the dense model


@lru_cache(maxsize=KEPT)
def _grouped(experts: int, shared: int, seed: int) -> list[Grouping]:
    """Which neurons go where: the same for every top-k."""
    bank = carve.architecture(architecture(DENSE), experts, 1, shared).experts
    assert bank is not None
    return carve.grouped(calibrated(), bank, seed)


@cache
def calibrated() -> list[LayerCalibration]:
    """What each neuron of the dense model contributes: computed once an installation, then read.

    Some ten seconds on two cores. Kept beside the program where it may write there, so that every data
    directory shares it, else in the data directory.
    """
    of = DENSE.read_bytes() + repr((CALIBRATING, calibration.EVERY, calibration.RIDGE)).encode()
    name = f"calibration-{hashlib.sha256(of).hexdigest()[:12]}.safetensors"
    for folder in (CACHE, Settings.load().data_dir / "cache"):
        with suppress(StoreError):
            return calibration.load(folder / name)
    layers = calibration.calibrate(shipped(DENSE, torch.device("cpu"), torch.float32), _training_windows())
    _keep(layers, name)
    return layers


def _training_windows() -> Iterator[torch.Tensor]:
    """Windows of the training text, every domain equally often."""
    generator = torch.Generator().manual_seed(0)
    batches, each, length = CALIBRATING
    texts = [torch.from_numpy(data.copy()) for data in text.load("train").values()]
    for _ in range(batches):
        starts = [torch.randint(len(data) - length, (each, 1), generator=generator) for data in texts]
        windows = [data[at + torch.arange(length)] for data, at in zip(texts, starts, strict=True)]
        yield torch.cat(windows).long()


def _keep(layers: list[LayerCalibration], name: str) -> None:
    """Write it where it can be; where it cannot, it is computed again next time."""
    for folder in (CACHE, Settings.load().data_dir / "cache"):
        draft = folder / f".{name}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            calibration.save(layers, draft, {"model": DENSE.name})
            draft.replace(folder / name)
            return
        except (OSError, SafetensorError):
            draft.unlink(missing_ok=True)


def cast(model: Decoder, dtype: torch.dtype) -> Decoder:
    """`model` with its parameters in `dtype`; buffers (rotary tables, selection bias) keep theirs."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model
