"""Answer: a question's tables and summary, published as a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moe_core.errors import StoreError
from moe_core.runs import bundle, provenance
from moe_core.runs.context import RunContext
from moe_core.runs.layout import BundleManifest
from moe_core.runs.question import Question
from moe_core.settings import Settings
from moe_core.version import question_id, run_id


def publish(
    question: Question,
    context: RunContext,
    tables: Mapping[str, Mapping[str, Any]],
    summary: Mapping[str, Any],
    rules: Mapping[str, Any],
    *,
    since: str = "check",
    complete: bool = True,
    earlier: Path | None = None,
) -> Path:
    """The directory of the published bundle. `rules`: what the lab did that the spec does not say.

    since: the stage from which on the machine was measured with; how busy it was since is kept.
    complete: False for a part, of which `earlier` is then the directory when the rest is published.
    """
    identity = question_id(question.spec)
    manifest = BundleManifest(
        run_id=run_id(identity, question.info.key),
        question_id=identity,
        spec=question.spec.model_dump(mode="json"),
        created=question.asked,
        duration_s=context.elapsed_s,
        stages=context.stages,
        complete=complete,
        provenance=provenance.of(question)
        | {"busy": context.busy(since).model_dump(mode="json"), "waiting": context.waiting}
        | dict(rules),
        architectures={
            "dense": question.dense.model_dump(mode="json"),
            "moe": question.moe.model_dump(mode="json"),
        },
        summary={"tokens": question.tokens, **summary},
    )
    kept = bundle.read(earlier) if earlier else None
    return bundle.publish(Settings.load().runs_dir, manifest, tables, kept)


def known(question: Question) -> bool:
    """Whether this device's answer lies there already, whole: then a part must not replace it."""
    path = Settings.load().runs_dir / run_id(question_id(question.spec), question.info.key)
    try:
        return bundle.read(path).manifest.complete
    except StoreError:
        return False
