"""Queries: the runs, their answers side by side, and what each measured. Routing has its own file.

Every function returns a DataFrame of aggregates (or one small record); parameters always.
Seconds, bytes and bits per byte, unrounded. A run id that is not in the store raises ConfigError.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple

import pandas as pd

from moe_core.errors import ConfigError
from moe_core.pressure import Busy
from moe_core.specs import RunSpec
from moe_core.store.db import Store


class Run(NamedTuple):
    """One run: its question, where and when it was answered, and its summary."""

    run_id: str
    question_id: str
    reference: str | None  # name of a shipped reference run; None for a run made here
    created: datetime  # UTC, naive
    duration_s: float
    complete: bool  # False while only its routing is there
    kept: float  # the part of its tokens whose decisions the store holds, one by one
    spec: dict[str, Any]
    stages: dict[str, float]
    provenance: dict[str, Any]
    architectures: dict[str, Any]
    summary: dict[str, Any]

    @property
    def served(self) -> bool:
        """Whether it is a trace: what a model chose that was served elsewhere."""
        return bool(self.spec["lab"] == "trace")

    @property
    def busy(self) -> Busy | None:
        """How busy the machine was while it was measured; None for runs from before that was kept."""
        kept = self.provenance.get("busy")
        return Busy.parse(kept) if kept else None


def key(store: Store, run_id: str) -> int:
    """The short key of a run in the tables. Raises ConfigError if the store does not have it."""
    found = store.rows("SELECT run FROM runs WHERE run_id = $run_id", run_id=run_id)
    if not found:
        raise _unknown(run_id)
    return int(found[0][0])


def _unknown(run_id: str) -> ConfigError:
    return ConfigError(f"run_id ({run_id[:40]}): must be a run in the store")


def for_run(store: Store, sql: str, run_id: str, **parameters: Any) -> pd.DataFrame:
    """`sql` with `$run` set to the key of `run_id`: a constant, so that other runs' blocks are skipped.

    Raises ConfigError also for a run that is deleted meanwhile.
    """
    frame = store.frame(sql, run=key(store, run_id), **parameters)
    if frame.empty:
        key(store, run_id)
    return frame


def history(store: Store, lab: str | None = None, limit: int = 1_000) -> pd.DataFrame:
    """Runs, newest first, one row each: identity, spec, device, and the summary in columns.

    `bits_*` bits per byte, `prefill_*_s` and `decode_*_s` medians, `peak_*_bytes`; NaN if not measured.
    """
    sql = """
        SELECT run_id, question_id, reference, lab, model, experts, top_k, shared, batch, seq, created,
            duration_s, complete, device, device_kind, code_version,
            provenance->>'$.dtype' AS dtype, provenance->>'$.kernel' AS kernel,
            (spec->>'$.text') IS NOT NULL AS own_text,
            spec->>'$.training.setting' AS setting,
            (summary->>'$.tokens')::BIGINT AS tokens, (summary->>'$.decisions')::BIGINT AS decisions,
            (summary->>'$.bits_per_byte.dense')::DOUBLE AS bits_dense,
            (summary->>'$.bits_per_byte.moe')::DOUBLE AS bits_moe,
            (summary->>'$.bits_per_byte.random')::DOUBLE AS bits_random,
            (summary->>'$.bits_per_byte.oracle')::DOUBLE AS bits_oracle,
            (summary->>'$.prefill_s.dense')::DOUBLE AS prefill_dense_s,
            (summary->>'$.prefill_s.moe')::DOUBLE AS prefill_moe_s,
            (summary->>'$.decode_s.dense')::DOUBLE AS decode_dense_s,
            (summary->>'$.decode_s.moe')::DOUBLE AS decode_moe_s,
            (summary->>'$.peak_bytes.dense')::DOUBLE AS peak_dense_bytes,
            (summary->>'$.peak_bytes.moe')::DOUBLE AS peak_moe_bytes
        FROM runs WHERE $lab IS NULL OR lab = $lab
        ORDER BY created DESC, run DESC LIMIT $limit"""
    return store.frame(sql, lab=lab, limit=limit)


def run(store: Store, run_id: str) -> Run:
    """Everything about one run that is not a table. Raises ConfigError if the store does not have it."""
    sql = f"SELECT {', '.join(Run._fields)} FROM runs WHERE run_id = $run_id"  # one query: it may be deleted
    rows = store.rows(sql, run_id=run_id)
    if not rows:
        raise _unknown(run_id)
    plain, parsed = rows[0][:7], (json.loads(value) for value in rows[0][7:])
    return Run(*plain, *parsed)


def latest(store: Store, question_id: str, *, whole: bool = True) -> str | None:
    """The newest answer to a question (same spec, same code), any device; None if never asked.

    whole: False takes an answer too of which only the routing is there.
    """
    sql = """
        SELECT run_id FROM runs WHERE question_id = $question AND (complete OR NOT $whole)
        ORDER BY created DESC, run DESC LIMIT 1"""
    found = store.rows(sql, question=question_id, whole=whole)
    return str(found[0][0]) if found else None


def latest_for_spec(store: Store, spec: RunSpec) -> str | None:
    """The newest answer to a spec, whatever the code version; runs made here before shipped ones."""
    sql = """
        SELECT run_id FROM runs WHERE spec = $spec::JSON AND complete
        ORDER BY reference IS NOT NULL, created DESC, run DESC LIMIT 1"""
    found = store.rows(
        sql, spec=json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    )
    return str(found[0][0]) if found else None


def nearest(store: Store, spec: RunSpec, reference_only: bool = True) -> str | None:
    """The run most like `spec`: same lab, then model, then distance in doublings of each size.

    Experts and top-k count fully, batch and length a quarter: routing hardly depends on them.
    The user's own text is never offered in place of another question.
    """
    sql = """
        SELECT run_id FROM runs
        WHERE lab = $lab AND complete AND (reference IS NOT NULL OR NOT $reference_only)
            AND (spec->>'$.text') IS NULL
        ORDER BY model <> $model,
            abs(log2(experts / $experts)) + abs(log2(top_k / $top_k)) + 0.5 * abs(shared - $shared)
            + 0.25 * abs(log2(batch / $batch)) + 0.25 * abs(log2(seq / $seq)),
            created DESC, run DESC
        LIMIT 1"""
    names = ("lab", "model", "experts", "top_k", "shared", "batch", "seq")
    values = {name: getattr(spec, name) for name in names}
    found = store.rows(sql, reference_only=reference_only, **values)
    return str(found[0][0]) if found else None


def timings(store: Store, run_id: str) -> pd.DataFrame:
    """model, phase, component, median_s, p10_s, p90_s, repeats. Decode is per step."""
    sql = """
        SELECT model, phase, component, median(seconds) AS median_s,
            quantile_cont(seconds, 0.1) AS p10_s, quantile_cont(seconds, 0.9) AS p90_s, count(*) AS repeats
        FROM timings WHERE run = $run GROUP BY ALL ORDER BY model, phase DESC, median_s DESC"""
    return for_run(store, sql, run_id)


def memory(store: Store, run_id: str) -> pd.DataFrame:
    """model, component ('total' too), predicted_bytes, measured_bytes (NaN where it is not measured)."""
    sql = """
        SELECT model, component, predicted_bytes, measured_bytes FROM memory WHERE run = $run
        ORDER BY model, component = 'total', predicted_bytes DESC"""
    return for_run(store, sql, run_id)


def quality(store: Store, run_id: str, domain: str | None = None) -> pd.DataFrame:
    """model (dense, moe, random, oracle), top_k, domain ('all' too), bits_per_byte, bytes."""
    sql = """
        SELECT model, top_k, domain, bits_per_byte, bytes FROM quality
        WHERE run = $run AND ($domain IS NULL OR domain = $domain)
        ORDER BY model, top_k, domain <> 'all', domain"""
    return for_run(store, sql, run_id, domain=domain)


def layers(store: Store, run_id: str) -> pd.DataFrame:
    """subject, series, tokens, width, hit (NaN for dense), median_s, p10_s, p90_s, repeats."""
    sql = """
        SELECT subject, series, tokens, width, median(hit) AS hit, median(seconds) AS median_s,
            quantile_cont(seconds, 0.1) AS p10_s, quantile_cont(seconds, 0.9) AS p90_s, count(*) AS repeats
        FROM layers WHERE run = $run GROUP BY ALL ORDER BY subject, series, width, tokens"""
    return for_run(store, sql, run_id)


def diff(store: Store, run_id_a: str, run_id_b: str) -> pd.DataFrame:
    """Two runs, measurement by measurement: section, model, item, unit, a, b, ratio (b / a).

    Sections: timings (median), memory (measured, else predicted), quality (per domain) and balance
    (mean over layers). A measurement that one run lacks is NaN there.
    """
    frame = store.frame(_DIFF, a=key(store, run_id_a), b=key(store, run_id_b))
    for run_id in (run_id_a, run_id_b):
        key(store, run_id)  # deleted meanwhile, it would look like a run that measured nothing
    return frame


_DIFF = """
    WITH facts AS (
        SELECT run, 'timings' AS section, model, phase || ' ' || component AS item, 's' AS unit,
            median(seconds) AS value
        FROM timings WHERE run IN ($a, $b) GROUP BY ALL
        UNION ALL
        SELECT run, 'memory', model, component, 'B', coalesce(measured_bytes, predicted_bytes)
        FROM memory WHERE run IN ($a, $b)
        UNION ALL
        SELECT run, 'quality', model, domain || ', top-' || top_k, 'bit/B', bits_per_byte
        FROM quality WHERE run IN ($a, $b)
        UNION ALL
        SELECT run, 'balance', 'moe', 'CV of the load', '', avg(cv) FROM (
            SELECT run, layer,
                sqrt(greatest(sum(pairs * pairs) * any_value(experts) / sum(pairs) ** 2 - 1, 0)) AS cv
            FROM (SELECT run, layer, expert, sum(pairs)::DOUBLE AS pairs FROM counts
                  WHERE run IN ($a, $b) GROUP BY ALL)
            JOIN banks USING (run, layer) WHERE expert < experts GROUP BY run, layer)
        GROUP BY run
    )
    SELECT section, model, item, unit, a.value AS a, b.value AS b, b.value / nullif(a.value, 0) AS ratio
    FROM (SELECT * EXCLUDE (run) FROM facts WHERE run = $a) AS a
    FULL JOIN (SELECT * EXCLUDE (run) FROM facts WHERE run = $b) AS b
    USING (section, model, item, unit)
    ORDER BY section, model, item"""
