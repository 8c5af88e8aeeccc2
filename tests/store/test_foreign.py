"""Manifests with something foreign in them: each is taken in, or set aside and named. Nothing raises."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.routing import quality
from app.words import measured_here
from moe_core import inputs
from moe_core.errors import StoreError
from moe_core.report.manifest import ran
from moe_core.runs import bundle
from moe_core.runs.layout import MANIFEST
from moe_core.settings import Settings
from moe_core.specs import RunSpec
from moe_core.store import ingest, queries, routing
from moe_core.store.db import Store

TINY = RunSpec(batch=1, seq=16, experts=4, top_k=2, repeats=5)
OTHER = RunSpec(batch=1, seq=16, experts=8, top_k=2, repeats=5)
FOREIGN = (None, True, -1, 10**30, 1.5, "x\x00", {}, [{}])
UNREAD = ("python", "commit", "platform", "date")  # of the provenance, by anybody
Values = dict[str, Any]
Write = Callable[..., Path]


def altered(values: Values) -> Iterator[tuple[str, Values]]:
    """Every value replaced by each of `FOREIGN`, every key removed: what was done, and the manifest."""
    for path in _paths(values):
        for foreign in FOREIGN:
            if (found := _with(values, path, foreign)) != values:
                yield f"{'.'.join(path)} = {foreign!r}", found
        yield f"{'.'.join(path)} removed", _with(values, path)


def _paths(values: Any, here: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in values.items() if isinstance(values, dict) else ():
        yield (*here, name)
        yield from _paths(value, (*here, name))


def _with(values: Values, path: tuple[str, ...], *foreign: Any) -> Values:
    found = copy.deepcopy(values)
    part = found
    for name in path[:-1]:
        part = part[name]
    if foreign:
        part[path[-1]] = foreign[0]
    else:
        del part[path[-1]]
    return found


def sound(path: Path) -> Values:
    """The manifest of a bundle, only those parts of its architectures that anything reads."""
    values: Values = json.loads((path / MANIFEST).read_text())
    for name, kept in (("dense", ()), ("moe", ("experts",))):
        old = values["architectures"][name]
        values["architectures"][name] = {part: old[part] for part in kept}
    bank = values["architectures"]["moe"]["experts"]
    values["architectures"]["moe"]["experts"] = {part: bank[part] for part in ("count", "top_k")}
    for name in UNREAD:
        del values["provenance"][name]
    del values["checksum"]  # as a writer of old would have left it
    return values


def place(template: Path, values: Values, number: int) -> Path:
    """A bundle of its own with this manifest; its tables are links to those of `template`."""
    path = template.with_name(f"{number:016x}")
    path.mkdir()
    for file in template.glob("*.parquet"):
        os.link(file, path / file.name)
    own = {"run_id": path.name} if values.get("run_id") == template.name else {}
    (path / MANIFEST).write_text(json.dumps(values | own))
    return path


@pytest.mark.slow
def test_every_altered_manifest_is_taken_in_or_named(
    store: Store, bundle_dir: Write, settings: Settings, nothing: Path
) -> None:
    template, good = bundle_dir(TINY, layers=1), bundle_dir(OTHER, layers=1)
    done = {place(template, v, n).name: what for n, (what, v) in enumerate(altered(sound(template)))}
    assert len(done) > 400
    report = ingest.refresh(store, nothing)
    assert {good.name, template.name} <= set(report.added)
    named = {str(found[1]) for line in report.problems if (found := re.search(r"runs/([0-9a-f]{16})/", line))}
    taken = set(report.added) - {good.name, template.name}
    assert taken | named == set(done)
    assert not taken & named
    for name in named:
        aside = settings.quarantine_dir / name
        if (settings.runs_dir / name).exists():  # of another version, perhaps: only named
            assert done[name].startswith(("schema", "files"))
        else:
            assert (aside / "reason.txt").read_text().strip()
    for run_id in sorted(taken):
        try:
            usable(store, run_id, good.name)
        except Exception as error:
            raise AssertionError(f"{done[run_id]}: {error!r}") from error
    assert len(queries.history(store)) == len(report.added)
    assert ingest.refresh(store, nothing).added == ()


def usable(store: Store, run_id: str, other: str) -> None:
    """What pages, exports and the history read of a run, without asking first."""
    run = queries.run(store, run_id)
    assert measured_here(run)
    if run.summary["bits_per_byte"] != queries.run(store, other).summary["bits_per_byte"]:  # slow to draw
        assert quality.summary(run.summary["bits_per_byte"]).title
    assert [float(value) for value in run.summary["peak_bytes"].values()]
    assert int(run.architectures["moe"]["experts"]["count"]) >= 1
    assert ran(bundle.read(store.settings.runs_dir / run_id).manifest)
    assert len(routing.balance(store, run_id))
    assert len(queries.diff(store, run_id, other))


def test_every_altered_manifest_with_a_checksum_is_refused(bundle_dir: Write) -> None:
    """A value that changed on the disk is found even where it would make sense."""
    path = bundle_dir(TINY, layers=1)
    values = json.loads((path / MANIFEST).read_text())
    kept = []
    for what, found in altered(values):
        (path / MANIFEST).write_text(json.dumps(found))
        try:
            bundle.read(path)
        except StoreError:
            continue
        kept.append(what)
    assert kept == ["checksum = None", "checksum removed"]  # as bundles of old


def test_bad_bundles_of_every_kind_beside_a_good_one(
    store: Store, bundle_dir: Write, settings: Settings, nothing: Path
) -> None:
    template, good = bundle_dir(TINY, layers=1), bundle_dir(OTHER, layers=1)
    values = sound(template)
    bad = [place(template, values, number) for number in range(7)]
    (bad[0] / MANIFEST).write_text("[" * 100_000)
    (bad[1] / MANIFEST).write_bytes(b"\xff\xfe\x00broken")
    (bad[2] / MANIFEST).unlink()
    (bad[2] / MANIFEST).mkdir()
    (bad[3] / MANIFEST).unlink()
    (bad[3] / MANIFEST).symlink_to(MANIFEST)
    (bad[4] / MANIFEST).write_text(json.dumps(values).replace('"seed": 0', '"seed": 0, "seed": 1'))
    (bad[5] / MANIFEST).write_text(json.dumps(values).replace("2.5", "NaN"))
    (bad[6] / MANIFEST).write_text(json.dumps(values | {"spec": {"experts": "x"}, "run_id": bad[6].name}))
    report = ingest.refresh(store, nothing)
    assert set(report.added) == {template.name, good.name}
    assert len(report.problems) == len(bad)
    for path in bad:
        assert (settings.quarantine_dir / path.name / "reason.txt").exists(), path.name
    assert ingest.refresh(store, nothing) == ingest.Report((), (), ())
    assert set(ingest.rebuild(store, nothing).added) == {template.name, good.name}


def test_a_manifest_nobody_may_read_is_named_and_stays(
    store: Store, bundle_dir: Write, nothing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of reach is not corrupt: the rows it has stay, and so does the bundle."""
    path, good = bundle_dir(TINY, layers=1), bundle_dir(OTHER, layers=1)
    ingest.refresh(store, nothing)
    content = inputs.content

    def refuse(file: Path, most: int) -> bytes:
        if file == path / MANIFEST:
            raise PermissionError(13, "Permission denied")
        return content(file, most)

    monkeypatch.setattr(inputs, "content", refuse)
    report = ingest.refresh(store, nothing)
    assert report.removed == ()
    assert re.fullmatch(rf"{path}/manifest.json cannot be read .*permissions", report.problems[0])
    assert {path.name, good.name} == set(queries.history(store)["run_id"])


def test_a_quarantine_that_cannot_be_made_blocks_nothing(
    store: Store, bundle_dir: Write, settings: Settings, nothing: Path
) -> None:
    bad, good = bundle_dir(TINY, layers=1), bundle_dir(OTHER, layers=1)
    (bad / MANIFEST).write_text("{")
    settings.quarantine_dir.write_text("a file")
    report = ingest.refresh(store, nothing)
    assert report.added == (good.name,)
    assert "could not be moved" in report.problems[0]
