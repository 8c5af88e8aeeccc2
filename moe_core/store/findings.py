"""Findings: what the complete runs of experiments found, the evidence that claims are held against."""

from __future__ import annotations

import json

from moe_core.claims.findings import Findings, LabRun, best
from moe_core.store.db import Store


def findings(store: Store) -> Findings:
    """By lab and name, of each the run that rests on most seeds, the newest of those. Shipped runs count."""
    sql = """
        SELECT lab, run_id, created, reference, device, summary->'$.findings'
        FROM runs WHERE complete AND json_type(summary, '$.findings') = 'OBJECT'"""
    return best(
        LabRun(lab, run_id, created, reference is None, f"{device}, {created:%Y-%m-%d}", json.loads(found))
        for lab, run_id, created, reference, device, found in store.rows(sql)
    )
