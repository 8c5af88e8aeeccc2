"""Models: the shipped ones, and mixtures carved from the dense one. Kept between the runs of a worker."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

import torch

from moe_core.errors import ConfigError
from moe_core.nn import carve, checkpoint
from moe_core.nn.experts import KERNELS
from moe_core.nn.model import Decoder
from moe_core.nn.moe import MoE
from moe_core.runs import text
from moe_core.settings import MODELS
from moe_core.specs import Architecture, RunSpec

DENSE, TRAINED = MODELS / "scale-dense.safetensors", MODELS / "scale-moe.safetensors"
CALIBRATION = (64, 256)  # sequences of the training split, and bytes of each
KEPT = 4  # carved mixtures, 30 MB each in fp32


@cache
def architecture(path: Path) -> Architecture:
    """The architecture of a shipped model, from its header."""
    return checkpoint.read_architecture(path)


def mixture_architecture(spec: RunSpec) -> Architecture:
    """The mixture that `spec` asks for, before anything is loaded. Raises ConfigError if there is none."""
    if spec.model == "carved":
        return carve.architecture(architecture(DENSE), spec.experts, spec.top_k, spec.shared)
    trained = architecture(TRAINED)
    assert trained.experts is not None
    for field, has in (("experts", trained.experts.count), ("shared", trained.experts.shared)):
        if getattr(spec, field) != has:
            raise ConfigError(f"{field} ({getattr(spec, field)}): the trained mixture has {has}")
    return trained.model_copy(update={"experts": trained.experts.model_copy(update={"top_k": spec.top_k})})


@cache
def shipped(path: Path, device: torch.device, dtype: torch.dtype) -> Decoder:
    """A shipped model on `device`. Read-only: every run of this process shares it."""
    return checkpoint.load(path, device, dtype)


def mixture(spec: RunSpec, device: torch.device, dtype: torch.dtype) -> Decoder:
    """The mixture that `spec` asks for, its kernel set."""
    if spec.model == "trained":
        model = carve.with_top_k(shipped(TRAINED, device, dtype), spec.top_k)
    else:
        model = _carved(spec.experts, spec.top_k, spec.shared, spec.seed, device, dtype)
    return with_kernel(model, spec.kernel)


def with_kernel(model: Decoder, kernel: str) -> Decoder:
    """`model`, computing its experts with `kernel`. Raises ConfigError when there is no such kernel."""
    if kernel not in KERNELS:
        raise ConfigError(f"kernel ({kernel}) must be one of {', '.join(KERNELS)}")
    for module in model.modules():
        if isinstance(module, MoE):
            module.kernel = kernel
    return model


@lru_cache(maxsize=KEPT)
def _carved(
    experts: int, top_k: int, shared: int, seed: int, device: torch.device, dtype: torch.dtype
) -> Decoder:
    """Carved in fp32, then cast: the same groups of neurons whatever the dtype of the run."""
    ids_BS = torch.from_numpy(text.calibration(*CALIBRATION, seed)).to(device, torch.int64)
    dense = shipped(DENSE, device, torch.float32)
    return cast(carve.carve(dense, experts, top_k, shared, ids_BS, seed), dtype)


def cast(model: Decoder, dtype: torch.dtype) -> Decoder:
    """`model` with its parameters in `dtype`; buffers (rotary tables, selection bias) keep theirs."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model
