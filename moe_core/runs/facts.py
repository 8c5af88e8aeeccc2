"""Facts: what readers rely on in the looser parts of a manifest, checked before a run is taken in.

Keys that are not named here may be there or not: another version may write more. What pages and queries
read without asking must be there, be of its kind, and fit the column it goes into.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from moe_core.errors import ConfigError
from moe_core.pressure import Busy
from moe_core.runs.layout import BundleManifest
from moe_core.specs import EXPERIMENTS

ROUTING = ("decisions", "tokens", "probabilities")  # published first: the rest of a run may follow
TABLES_OF: dict[str, tuple[str, ...]] = {
    "bench": (*ROUTING, "timings", "memory", "quality"),
    "topk_sweep": ("quality",),
    "layer_sweep": ("layers",),
    "real_layers": ("layers",),
    "trace": ("decisions", "tokens", "banks", "counts"),
    **dict.fromkeys(EXPERIMENTS, ("series",)),
}
MEASURED = ("bits_per_byte", "prefill_s", "decode_s", "peak_bytes")  # of a whole bench run


def _both(values: dict[str, float | None]) -> dict[str, float | None]:
    if any(values.get(name) is None for name in ("dense", "moe")):
        raise ValueError("must have a number for dense and for moe")
    return values


Small = Annotated[int, Field(ge=1, le=2**15 - 1)]  # experts are SMALLINT
Size = Annotated[int, Field(ge=1, le=2**31 - 1)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Amount = Annotated[float, Field(ge=0)]
Models = Annotated[dict[str, Amount | None], AfterValidator(_both)]


class _Part(BaseModel):
    """Known keys are strict, others are let through unread."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


class _Asked(_Part):
    lab: str
    model: str
    dtype: str
    experts: Small
    top_k: Small
    shared: Annotated[int, Field(ge=0, le=2**15 - 1)]
    batch: Size
    seq: Size
    seed: int = 0
    text: str | None = None


class _AskedTrace(_Asked):
    title: str


class _Provenance(_Part):
    device: str
    device_kind: str
    device_key: str
    code_version: str
    dtype: str
    kernel: str
    threads: int
    torch: str
    moescope: str
    seed: int
    commit: str | None = None
    busy: Busy | None = None


class _Experts(_Part):
    count: Small
    top_k: Small


class _Mixture(_Part):
    experts: _Experts


class _Bench(_Part):
    tokens: Count
    decisions: Count
    bits_per_byte: Models | None = None
    prefill_s: Models | None = None
    decode_s: Models | None = None
    peak_bytes: Models | None = None


class _Trace(_Part):
    """Of choices that were recorded elsewhere (moe_core/runs/traced.py)."""

    tokens: Count
    decisions: Count
    sequences: Count
    domains: Annotated[list[str], Field(min_length=1)]
    format: str
    notes: list[str]
    weights: bool
    source: str


class _Subject(_Part):
    name: str
    label: str
    hidden: Size
    width: Size
    experts: Size
    top_k: Size
    shared_width: Annotated[int, Field(ge=0, le=2**31 - 1)]
    gated: bool
    working_set: Count
    random: bool


class _Layers(_Part):
    tokens: Count
    decisions: Count
    subjects: Annotated[list[_Subject], Field(min_length=1)]
    skipped: dict[str, str]
    missing: dict[str, str]


class _Rates(_Part):
    rates: dict[str, dict[str, Any]]


class _Calibrated(_Part):
    tokens: Count
    decisions: Count
    calibration: _Rates


class StoredFinding(_Part):
    """One number that an experiment found, by a rule of its file: over `seeds` paired runs.

    low, high: 95 % interval where there are at least two seeds.
    """

    value: float
    low: float | None = None
    high: float | None = None
    seeds: Annotated[int, Field(ge=0)] = 1
    unit: str = ""


class _Experiment(_Part):
    findings: Annotated[dict[str, StoredFinding], Field(min_length=1)]


SUMMARIES: dict[str, type[_Part]] = {
    **dict.fromkeys(EXPERIMENTS, _Experiment),
    "bench": _Bench,
    "topk_sweep": _Bench,
    "layer_sweep": _Layers,
    "real_layers": _Layers,
    "calibrate": _Calibrated,
    "trace": _Trace,
}


def check(manifest: BundleManifest) -> None:
    """Raises ConfigError, naming the field, when a page or a query could not use this run."""
    _read("spec", _AskedTrace if manifest.spec.get("lab") == "trace" else _Asked, manifest.spec)
    _read("provenance", _Provenance, manifest.provenance)
    times = {"duration_s": manifest.duration_s, **{f"stages.{k}": v for k, v in manifest.stages.items()}}
    for name, value in times.items():
        if value < 0:
            raise ConfigError(f"{name} ({value:g}): must not be negative")
    if not 1970 <= manifest.created.year <= 9998:  # a zone's hours away from what a timestamp holds
        raise ConfigError(f"created ({manifest.created.isoformat()}): must be a date after 1970")
    lab = manifest.spec["lab"]
    mixture = manifest.architectures.get("moe")
    if lab == "bench" or mixture is not None:
        _read("architectures.moe", _Mixture, mixture)
    _read("summary", SUMMARIES.get(lab, _Part), manifest.summary)
    _whole(manifest, lab)


def experts(manifest: BundleManifest) -> int:
    """Experts of the mixture that ran, of a checked manifest: a trained model brings its own number."""
    mixture = manifest.architectures.get("moe")
    return int(mixture["experts"]["count"] if mixture else manifest.spec["experts"])


def _whole(manifest: BundleManifest, lab: str) -> None:
    """The tables of the lab are there, with rows, and so is what it measured. A run that is still under
    way (`complete` is false) has its routing."""
    partial = not manifest.complete
    tables = ROUTING if partial and lab == "bench" else TABLES_OF.get(lab, ())
    for name in tables:
        entry = manifest.files.get(f"{name}.parquet")
        if entry is None or entry.rows == 0:
            raise ConfigError(f"files ({name}.parquet): a run of {lab} must have it, with rows")
    for name in MEASURED if lab == "bench" and not partial else ():
        if manifest.summary.get(name) is None:
            raise ConfigError(f"summary.{name}: a run of {lab} must have it")


def _read(where: str, part: type[_Part], values: Mapping[str, Any] | None) -> None:
    try:
        part.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}.{ConfigError.from_validation(error)}") from error
