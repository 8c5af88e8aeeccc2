"""A synthetic run: the shape of a real one, made in milliseconds, no torch.

Experts have taste: each domain prefers some of them, so that heatmaps, lift and flows show something.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from moe_core.pressure import Busy
from moe_core.runs import bundle
from moe_core.runs.layout import MANIFEST, BundleManifest, checksum
from moe_core.specs import EXPERIMENTS, GQA, Architecture, Experts, Router, RunSpec
from moe_core.version import __version__, code_version, question_id, run_id
from tests import synthetic_layers, synthetic_training

SAMPLES = {
    "english": "The cat sat on the mat, and 42 people said: how nice! ",
    "german": "Die Größe der Straße überraschte über 30 Gäste. ",
    "french": "L'été dernier, nous étions à Orléans près du fleuve. ",
    "russian": "Кошка сидит на окне и смотрит на улицу. ",
    "python": "def add(a, b):\n    return a + b  # sum\n",
    "c": "int main(void) { return x[0] ? 1 : -1; }\n",
    "mathematics": "$\\int_0^1 x^2 dx = 1/3$, so f(3) = 9. ",
    "markup": '<div class="note"><a href="#">link</a></div>\n',
}
BENCH_TABLES = ("decisions", "tokens", "probabilities", "timings", "memory", "quality")
COMPONENTS = (
    "attention",
    "router",
    "dispatch",
    "experts",
    "combine",
    "shared",
    "ffn",
    "norm",
    "embed",
    "head",
)
WEIGHTS = ("embedding", "attention", "ffn", "experts", "shared", "router", "norms", "kv_cache", "activations")


def write_bundle(
    runs_dir: Path,
    spec: RunSpec | None = None,
    *,
    layers: int = 8,
    seed: int = 0,
    device_key: str = "cpu-test",
    created: datetime | None = None,
    others: float = 0.0,
    complete: bool = True,
    findings: Mapping[str, Any] | None = None,
) -> Path:
    """Publish one synthetic run under `runs_dir`; its directory is named by its run id.

    others: cores that other programs used meanwhile. complete: False leaves only the routing.
    findings: of an experiment, as its summary holds them; None: those of its synthetic series.
    """
    spec = spec or RunSpec()
    generator = np.random.default_rng(seed)
    tables = TABLES_OF.get(spec.lab, partial(_bench, layers=layers, generator=generator))(spec)
    decisions = len(tables["decisions"]["layer"]) if "decisions" in tables else 0
    if not complete and spec.training is None:
        tables = {name: tables[name] for name in ("decisions", "tokens", "probabilities")}
    question = question_id(spec)
    busy = Busy(others=others, waited=None, wall_s=1.0, processor_s=1.0, cores=2)
    manifest = BundleManifest(
        run_id=run_id(question, device_key),
        question_id=question,
        spec=spec.model_dump(mode="json"),
        created=created or datetime.now(UTC),
        duration_s=2.5,
        complete=complete,
        stages={"load": 0.5, "carve": 0.7, "route": 0.3, "time": 1.0},
        provenance=_provenance(spec, device_key) | {"busy": busy.model_dump(mode="json")},
        architectures=_architectures(spec, layers),
        summary=(_summary(spec, decisions) | ({} if findings is None else {"findings": dict(findings)}))
        if complete
        else {"tokens": spec.batch * spec.seq, "decisions": decisions},
    )
    return bundle.publish(runs_dir, manifest, tables)


def alter(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest of a bundle as its writer would have: its checksum is right."""
    file = path / MANIFEST
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values | {"checksum": checksum(values)}))


TABLES_OF: dict[str, Callable[[RunSpec], dict[str, Any]]] = {
    "topk_sweep": lambda spec: _sweep(spec),
    "layer_sweep": synthetic_layers.layers,
    "real_layers": synthetic_layers.layers,
    "calibrate": lambda spec: {},
    **dict.fromkeys(EXPERIMENTS, synthetic_training.tables),
}


def _bench(spec: RunSpec, layers: int, generator: np.random.Generator) -> dict[str, Any]:
    tokens, text = _tokens(spec)
    domains = list(dict.fromkeys(text))
    number = {name: index for index, name in enumerate(domains)}
    domain_T = np.array([number[name] for name in text])
    decisions, probabilities = _decisions(spec, layers, domain_T, domains, generator)
    return {
        "decisions": decisions,
        "tokens": tokens,
        "probabilities": probabilities,
        "timings": _timings(spec, generator),
        "memory": _memory(spec),
        "quality": _quality(spec, sorted(set(text)), (spec.top_k,)),
    }


def _tokens(spec: RunSpec) -> tuple[dict[str, Any], list[str]]:
    """One domain a sequence, in turn, as a run reads the held-out corpus."""
    domains = ["yours"] if spec.text else list(SAMPLES)
    samples = {"yours": spec.text} if spec.text else SAMPLES
    names = [domains[index % len(domains)] for index in range(spec.batch)]
    data_BS = [np.resize(np.frombuffer(samples[name].encode(), np.uint8), spec.seq) for name in names]
    count = spec.batch * spec.seq
    text = [name for name in names for _ in range(spec.seq)]
    columns = {
        "token": np.arange(count, dtype=np.int32),
        "sequence": np.repeat(np.arange(spec.batch, dtype=np.int32), spec.seq),
        "position": np.tile(np.arange(spec.seq, dtype=np.int32), spec.batch),
        "byte": np.concatenate(data_BS),
        "domain": text,
    }
    return columns, text


def _decisions(
    spec: RunSpec, layers: int, domain_T: np.ndarray, domains: list[str], generator: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Top-k of domain taste plus noise: distinct experts per token, best first."""
    tokens, experts, top_k = len(domain_T), spec.experts, spec.top_k
    expert_LTK = np.empty((layers, tokens, top_k), np.int16)
    weight_LTK = np.ones((layers, tokens, top_k), np.float32)  # carved: every weight is 1
    taste_LDE = generator.normal(size=(layers, len(domains), experts)).astype(np.float32)
    for layer in range(layers):
        noise_TE = generator.random((tokens, experts), dtype=np.float32)
        score_TE = taste_LDE[layer][domain_T] * 0.5 + noise_TE
        best_TK = np.argpartition(-score_TE, top_k - 1, axis=1)[:, :top_k]
        order_TK = np.argsort(-np.take_along_axis(score_TE, best_TK, 1), axis=1)
        expert_LTK[layer] = np.take_along_axis(best_TK, order_TK, 1)
        if spec.model == "trained":  # softmax over the selected
            exp_TK = np.exp(np.take_along_axis(score_TE, expert_LTK[layer].astype(np.int64), 1))
            weight_LTK[layer] = exp_TK / exp_TK.sum(1, keepdims=True)
    decisions = {
        "layer": np.repeat(np.arange(layers, dtype=np.int16), tokens * top_k),
        "token": np.tile(np.repeat(np.arange(tokens, dtype=np.int32), top_k), layers),
        "slot": np.tile(np.arange(top_k, dtype=np.int16), layers * tokens),
        "expert": expert_LTK.reshape(-1),
        "weight": weight_LTK.reshape(-1),
    }
    share_LDE = np.exp(taste_LDE)
    share_LDE /= share_LDE.sum(-1, keepdims=True)
    return decisions, _probabilities(share_LDE, domains)


def _probabilities(share_LDE: np.ndarray, domains: list[str]) -> dict[str, Any]:
    layers, _, experts = share_LDE.shape
    return {
        "layer": np.repeat(np.arange(layers), len(domains) * experts),
        "domain": [name for _ in range(layers) for name in domains for _ in range(experts)],
        "expert": np.tile(np.arange(experts), layers * len(domains)),
        "probability": share_LDE.reshape(-1).astype(np.float64),
    }


def _timings(spec: RunSpec, generator: np.random.Generator) -> dict[str, Any]:
    rows = []
    for model, phase, repeat in _each(("dense", "moe"), ("prefill", "decode"), range(spec.repeats)):
        skip = {"ffn"} if model == "moe" else {"router", "dispatch", "experts", "combine", "shared"}
        scale = (0.02 if phase == "prefill" else 0.002) * (0.8 if model == "moe" else 1.0)
        parts = {name: scale * (0.5 + generator.random()) for name in COMPONENTS if name not in skip}
        rows += [(model, phase, name, repeat, seconds) for name, seconds in parts.items()]
        rows.append((model, phase, "total", repeat, sum(parts.values()) * 1.02))
    return _columns(("model", "phase", "component", "repeat", "seconds"), rows)


def _memory(spec: RunSpec) -> dict[str, Any]:
    rows: list[tuple[object, ...]] = []
    for model in ("dense", "moe"):
        skip = {"ffn"} if model == "moe" else {"experts", "shared", "router"}
        parts = [name for name in WEIGHTS if name not in skip]
        sizes = [(index + 1) * 100_000 * spec.batch for index, _ in enumerate(parts)]
        measured = [None if name == "activations" else size for name, size in zip(parts, sizes, strict=True)]
        rows += [(model, *row) for row in zip(parts, sizes, measured, strict=True)]
        rows.append((model, "total", sum(sizes), int(sum(sizes) * 1.1)))
    return _columns(("model", "component", "predicted_bytes", "measured_bytes"), rows)


def _quality(spec: RunSpec, domains: list[str], top_ks: tuple[int, ...]) -> dict[str, Any]:
    base = {"dense": 1.9, "oracle": 2.2, "moe": 2.4, "random": 3.5}
    rows = []
    for (model, bits), top_k, domain in _each(base.items(), top_ks, ("all", *domains)):
        gap = 0.0 if model == "dense" else (bits - 1.9) * (1 - top_k / (spec.experts + 1))
        rows.append((model, top_k, domain, 1.9 + gap + len(domain) * 0.01, spec.batch * spec.seq))
    return _columns(("model", "top_k", "domain", "bits_per_byte", "bytes"), rows)


def _sweep(spec: RunSpec) -> dict[str, Any]:
    top_ks = tuple(k for k in (1, 2, 4, 8, 16, 32, 64, 128) if k <= spec.experts)
    return {"quality": _quality(spec, sorted(SAMPLES), top_ks)}


def _each(*axes: Any) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = [()]
    for axis in axes:
        rows = [(*row, value) for row in rows for value in axis]
    return rows


def _columns(names: tuple[str, ...], rows: list[tuple[object, ...]]) -> dict[str, Any]:
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def _provenance(spec: RunSpec, device_key: str) -> dict[str, Any]:
    return {
        "device": "Synthetic CPU",
        "device_kind": "cpu",
        "device_key": device_key,
        "threads": 2,
        "dtype": "fp32",
        "kernel": "padded",
        "torch": "2.13.0",
        "python": "3.11.7",
        "moescope": __version__,
        "code_version": code_version(),
        "commit": "0123456789ab",
        "platform": "Linux-x86_64",
        "date": "2026-11-22",
        "seed": spec.seed,
    }


def _architectures(spec: RunSpec, layers: int) -> dict[str, Any]:
    attention = GQA(heads=8, kv_heads=4, head_dim=32)
    width = max(1, 1024 // (spec.experts + spec.shared))
    router = Router(kind="unit" if spec.model == "carved" else "softmax")
    experts = Experts(count=spec.experts, top_k=spec.top_k, width=width, shared=spec.shared, router=router)
    common = {"hidden": 256, "layers": layers, "vocab": 256, "attention": attention, "tied": True}
    dense = Architecture(name="scale-dense", ffn_width=1024, **common)
    mixture = Architecture(name=f"scale-{spec.model}", experts=experts, **common)
    return {"dense": dense.model_dump(mode="json"), "moe": mixture.model_dump(mode="json")}


def _summary(spec: RunSpec, decisions: int) -> dict[str, Any]:
    bits = {"dense": 1.9, "moe": 2.4, "random": 3.5, "oracle": 2.2}
    if spec.lab in EXPERIMENTS:
        return synthetic_training.summary(spec)
    if spec.lab in ("layer_sweep", "real_layers", "calibrate"):
        return synthetic_layers.summary(spec)
    if spec.lab == "topk_sweep":
        return {"tokens": spec.batch * spec.seq, "decisions": 0, "bits_per_byte": bits}
    return {
        "tokens": spec.batch * spec.seq,
        "decisions": decisions,
        "bits_per_byte": bits,
        "prefill_s": {"dense": 0.10, "moe": 0.08},
        "decode_s": {"dense": 0.010, "moe": 0.012},
        "peak_bytes": {"dense": 60_000_000, "moe": 70_000_000},
    }
