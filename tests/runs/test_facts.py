"""What readers rely on in a manifest is checked; what another version adds is let through."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from moe_core.errors import ConfigError
from moe_core.perf import calibrate
from moe_core.runs import bundle, facts
from moe_core.runs.layout import BundleManifest
from moe_core.settings import REFERENCE
from moe_core.specs import RunSpec

SMALL = RunSpec(batch=8, seq=32, experts=4, top_k=2)
SPECS = (SMALL, RunSpec(lab="topk_sweep"), RunSpec(lab="layer_sweep"), calibrate.question())
Write = Callable[..., Path]


@pytest.fixture
def manifest(bundle_dir: Write) -> BundleManifest:
    return bundle.read(bundle_dir(SMALL)).manifest


@pytest.mark.parametrize("spec", SPECS, ids=[spec.lab for spec in SPECS])
def test_every_lab_is_usable(bundle_dir: Write, spec: RunSpec) -> None:
    facts.check(bundle.read(bundle_dir(spec)).manifest)


@pytest.mark.parametrize("path", [path.parent for path in REFERENCE.glob("*/manifest.json")], ids=str)
def test_every_shipped_run_is_usable(path: Path) -> None:
    facts.check(bundle.read(path).manifest)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spec": {"experts": "x"}}, r"spec\.experts \(x\)"),
        ({"spec": {"experts": 2**15}}, r"spec\.experts \(32768\)"),
        ({"spec": {"text": 5}}, r"spec\.text"),
        ({"provenance": {"threads": None}}, r"provenance\.threads"),
        ({"architectures": {"moe": {"experts": None}}}, r"architectures\.moe\.experts"),
        ({"architectures": {"moe": None}}, r"architectures\.moe"),
        ({"summary": {"bits_per_byte": {"dense": 1.9}}}, "must have a number for dense and for moe"),
        ({"summary": {"tokens": 2**70}}, r"summary\.tokens"),
        ({"summary": {"peak_bytes": None}}, r"summary\.peak_bytes: a run of bench must have it"),
        ({"duration_s": -1.0}, "must not be negative"),
        ({"created": datetime.min.replace(tzinfo=UTC)}, "must be a date after 1970"),
        ({"files": None}, r"files \(decisions\.parquet\)"),
    ],
)
def test_what_a_page_could_not_use_is_named(
    manifest: BundleManifest, changes: dict[str, Any], said: str
) -> None:
    parts = {
        name: {**getattr(manifest, name), **value} if isinstance(value, dict) else value if value else {}
        for name, value in changes.items()
    }
    with pytest.raises(ConfigError, match=said):
        facts.check(manifest.model_copy(update=parts))


def test_what_another_version_adds_is_let_through(manifest: BundleManifest) -> None:
    more = {"spec": manifest.spec | {"new": [1]}, "summary": manifest.summary | {"new": {"a": None}}}
    facts.check(manifest.model_copy(update=more))
    assert facts.experts(manifest) == 4
