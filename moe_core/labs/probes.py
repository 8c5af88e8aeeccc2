"""Probes: what is timed to calibrate a device, and how long each may be expected to take.

None has the shape of a layer that is predicted. Sizes are what the memory has room for now.
"""

from __future__ import annotations

import torch

from moe_core.device import DTYPES, free_memory, has_fast_bf16
from moe_core.nn.tuning import NEUTRAL, Tuning
from moe_core.perf.calibrate import Probe
from moe_core.units import KIB, MIB

ROWS = tuple(2**i for i in range(13))
PAIRS_ROWS = (64, 512, 4096)
MORE_ROWS = (8192, 16384)  # tokens, of which few go to each expert
TINY = (64, 32)  # hidden and width of experts that are nothing but overhead
EMULATED_ROWS = 256  # of a dtype that the device does not multiply, beyond which its time is in proportion
BANK_SHARE = 0.25  # of the free memory, that one bank may take
BANKS = (
    (320, 96, 32, 4),
    (768, 256, 64, 4),
    (1280, 1024, 32, 2),
    (1536, 2560, 8, 1),
)  # hidden, width, experts, top-k
NETWORKS = ((320, 320), (960, 1344), (1152, 4608), (1408, 17920))  # hidden, width
PRODUCTS = ((1536, 1536), (3072, 3072))  # n, k
ROUTERS = ((512, 16), (1536, 128))  # hidden, experts
READS = (256 * KIB, 2 * MIB, 16 * MIB, 64 * MIB, 256 * MIB)


def foreseen(probe: Probe, lower: Probe, seconds: float) -> float:
    """Seconds of a probe by those of the same one with fewer rows: at most in proportion to the rows."""
    return seconds * max(1.0, probe.rows / max(lower.rows, 1))


def planned(device: torch.device, tuning: Tuning = NEUTRAL) -> list[Probe]:
    """Probes with weights, by work: what fits the memory that is free now."""
    found = [probe for name in dtypes(device) for probe in _of(name, device)]
    emulated = [name for name in DTYPES if tuning.emulates(name)]
    few = [probe for probe in found if probe.dtype not in emulated or probe.rows <= EMULATED_ROWS]
    return sorted(few, key=lambda probe: probe.work)


def dtypes(device: torch.device) -> list[str]:
    """What is calibrated: bf16 also on a CPU that emulates it, not on a GPU that does."""
    return [name for name in DTYPES if name == "fp32" or device.type == "cpu" or has_fast_bf16(device)]


def _of(dtype: str, device: torch.device) -> list[Probe]:
    """Probes of one dtype, whatever their rows."""
    found = [
        Probe("layer", dtype, 1, *TINY, 64, 1),
        Probe("each", dtype, 16, *TINY, 64, 4),
        *(Probe("pairs", dtype, rows, 1024, 16, 8, 2) for rows in PAIRS_ROWS),
    ]
    found += [Probe("product", dtype, m, k, n) for n, k in PRODUCTS for m in ROWS[::2]]
    found += [Probe("ffn", dtype, m, *sizes) for sizes in (TINY, *_networks(device)) for m in ROWS]
    found += [Probe("router", dtype, m, hidden, 0, experts) for hidden, experts in ROUTERS for m in ROWS[::3]]
    hidden, width, experts, top_k = BANKS[0]
    found += [Probe("ragged", dtype, m, hidden, width + 1, experts, top_k) for m in ROWS[::2]]
    found += [Probe("ragged", dtype, m, NETWORKS[0][0], NETWORKS[0][1] + 1) for m in ROWS[::2]]
    for bank in _banks(device):
        found += [Probe("experts", dtype, rows, *bank) for rows in (*ROWS, *MORE_ROWS)]
        if device.type != "cpu":
            found += [Probe("gather", dtype, rows, *bank) for rows in (1, 4, 16, 64)]
    return found


def _most(device: torch.device) -> float:
    """Weights that one probe may have, were they fp32."""
    return BANK_SHARE * free_memory(device) / 4


def _banks(device: torch.device) -> list[tuple[int, int, int, int]]:
    """The banks, of fewer experts where memory is small, or left out; the smallest stays."""
    found, most = [BANKS[0]], _most(device)
    for hidden, width, experts, top_k in BANKS[1:]:
        count = experts
        while count > 2 * top_k and 3 * hidden * width * count > most:
            count //= 2
        if 3 * hidden * width * count <= most:
            found.append((hidden, width, count, top_k))
    return found


def _networks(device: torch.device) -> list[tuple[int, int]]:
    """The dense networks that memory has room for; the smallest stays."""
    return [size for size in NETWORKS if size == NETWORKS[0] or 3 * size[0] * size[1] <= _most(device)]
