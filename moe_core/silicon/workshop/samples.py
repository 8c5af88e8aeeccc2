"""The served benchmarks as questions we can ask: our architecture, device, formats and split for each row.

Rules, because the rows were collected by others with other words:

* devices   tp x attention_dp, or moe_tp x moe_ep where that is more. A square of the device count (tp 64
            with moe_tp 8 and moe_ep 8) is that count: a product was taken twice
* sequences `silicon_concurrency` where it is given, else batch: all devices together
* formats   of the checkpoint that was served: gpt-oss has 4-bit experts whatever the row says; DeepSeek, GLM,
            Qwen3-235B, Qwen3.5 and MiniMax quantise to 8 bits by blocks; 4-bit mixtures keep attention in 8
* style     the package authors' own benchmarks run prompts of one length in step; the others vary them

Left out, with the reason: models without a record, racks whose device count is that of two pools.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache as once
from typing import Any, NamedTuple

from moe_core import registry
from moe_core.formats import Format
from moe_core.hardware import Hardware
from moe_core.perf.shard import Parallel
from moe_core.silicon import systems, tables
from moe_core.specs import Architecture, Precision

# Hugging Face names in the samples and our record; one model may have several checkpoints.
MODELS = {
    "MiniMaxAI/MiniMax-M2.5": "minimax-m2.5",
    "Qwen/Qwen3-235B-A22B-FP8": "qwen3-235b-a22b",
    "Qwen/Qwen3-32B": "qwen3-32b",
    "Qwen/Qwen3.5-397B-A17B": "qwen3.5-397b-a17b",
    "deepseek-ai/DeepSeek-R1": "deepseek-v3",
    "deepseek-ai/DeepSeek-V3": "deepseek-v3",
    "moonshotai/Kimi-K2.5": "kimi-k2.5",
    "meta-llama/Llama-3.1-70B": "llama-3.1-70b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "nvidia/DeepSeek-R1-NVFP4": "deepseek-v3",
    "nvidia/DeepSeek-V3.1-NVFP4": "deepseek-v3",
    "nvidia/Llama-3.1-8B-Instruct-FP8": "llama-3.1-8b",
    "nvidia/Qwen3-32B-NVFP4": "qwen3-32b",
    "openai/gpt-oss-120b": "gpt-oss-120b",
    "zhipuai/GLM-5": "glm-5",
}
_BLOCKS = ("deepseek-v3", "glm-5", "qwen3-235b-a22b", "qwen3.5-397b-a17b", "minimax-m2.5")
_OTHERS_LENGTHS = re.compile(r"^(db-dump|source_file=\d{4}-\d{2}-\d{2}\.csv)")
_COLUMNS = (
    *("id", "framework", "version", "model", "system", "gemm_dtype", "moe_dtype", "isl", "osl", "batch"),
    *("tp", "attention_dp", "moe_tp", "moe_ep", "ttft", "tpot", "origin"),
)


class ServedSample(NamedTuple):
    """One served measurement and the question it answers. Seconds."""

    id: str
    name: str  # of our record
    arch: Architecture
    device: Hardware
    framework: str
    precision: Precision
    kv: Format
    parallel: Parallel
    sequences: int
    isl: int
    osl: int
    in_step: bool  # prompts of one length, in step
    ttft: float
    tpot: float

    @property
    def queued(self) -> bool:
        """Requests waited longer than they ran: the stated number of sequences never ran together."""
        return self.ttft > self.osl * self.tpot

    @property
    def configuration(self) -> str:
        """What two runs of one configuration share."""
        form, ways = self.precision.fingerprint()[:8], f"{self.parallel.tensor}x{self.parallel.expert}"
        load = f"{self.sequences} of {self.isl}+{self.osl}{' in step' if self.in_step else ''}"
        return f"{self.name} {form} / {self.framework} / {ways} {self.device.name} / {load}"


class Samples(NamedTuple):
    """The rows we can ask about, and how many were left out for which reason."""

    used: tuple[ServedSample, ...]
    left_out: dict[str, int]


@once
def aggregated() -> Samples:
    """Rows where one pool of devices prefilled and decoded (mode agg), in the order of the file."""
    found = tables.measured("samples", _COLUMNS, mode="agg")
    rows = [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]
    used, why = [], Counter[str]()
    for row in rows:
        reason = _unusable(row)
        if reason:
            why[reason] += 1
        else:
            used.append(_sample(row))
    return Samples(tuple(used), dict(why))


def _unusable(row: dict[str, Any]) -> str:
    if row["model"] not in MODELS:
        return f"no record of {row['model']}"
    if registry.get(MODELS[row["model"]]).architecture is None:
        return f"no closed form of {row['model']}"
    if _count(row["tp"]) > 8 and row["moe_tp"] != row["moe_ep"]:
        return "device count of two pools (GB200 racks)"
    return ""


def _sample(row: dict[str, Any]) -> ServedSample:
    name = MODELS[row["model"]]
    arch = registry.get(name).architecture
    assert arch is not None
    stated = re.search(r"silicon_concurrency=(\d+)", row["origin"])
    return ServedSample(
        *(row["id"], name, arch, systems.device(row["system"]), row["framework"]),
        *(_precision(name, row["gemm_dtype"]), _cache(name, row["gemm_dtype"])),
        _split(row, arch.experts is not None),
        int(stated[1]) if stated else _count(row["batch"]),
        *(_count(row["isl"]), _count(row["osl"])),
        not _OTHERS_LENGTHS.match(row["origin"]),
        *(row["ttft"], row["tpot"]),
    )


def _precision(name: str, form: str | None) -> Precision:
    if name.startswith("gpt-oss"):
        return Precision(experts="mxfp4")
    if form is None:
        return Precision()
    if form == "int4":
        return registry.get(name).stored
    rest: dict[str, Format] = {"head": "bf16", "router": "bf16"}
    if form == "nvfp4":
        wider: dict[str, Format] = {"attention": "fp8", "mixer": "fp8"} if name in _BLOCKS else {}
        wider = {"attention": "bf16"} if name == "kimi-k2.5" else wider  # as in its hf_quant_config.json
        return Precision.parse({"default": "nvfp4", **wider, **rest})
    blocks = name in _BLOCKS or form == "fp8_block"
    return Precision.parse({"default": "fp8_block" if blocks else "fp8", **rest})


def _cache(name: str, form: str | None) -> Format:
    return "bf16" if form in (None, "int4") or name.startswith("gpt-oss") else "fp8"


def _split(row: dict[str, Any], mixture: bool) -> Parallel:
    tensor, groups = _count(row["tp"]), _count(row["attention_dp"])
    slices, ranks = _count(row["moe_tp"]), _count(row["moe_ep"])
    if slices == ranks > 1 and tensor * groups == slices * ranks:
        return Parallel(tensor=slices if groups == 1 else 1, expert=ranks if mixture else 1)
    if slices * ranks > tensor * groups:
        groups = math.ceil(slices * ranks / tensor)
    if groups > 1:
        return Parallel(tensor=tensor, expert=tensor * groups)
    return Parallel(tensor=tensor, expert=min(ranks, tensor) if mixture else 1)


def _count(value: float | None) -> int:
    """Missing and zero mean one."""
    return 1 if value is None or value != value or value < 1 else int(value)
