"""`lab`: the experiments that train. List them, run one, show what it found; beside a web process too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

import typer

from moe_core import lookup
from moe_core.cli.ask import ask, finished
from moe_core.cli.output import Json, answer, one_of, table
from moe_core.errors import ConfigError, StoreError
from moe_core.labs.training import picks
from moe_core.labs.training.table import TABLE, Setting, question
from moe_core.runs import bundle
from moe_core.runs.bundle import Bundle
from moe_core.settings import REFERENCE, Settings
from moe_core.specs import Experiment, RunSpec
from moe_core.units import figure, quantity

Action = Literal["list", "run", "show"]
_D = RunSpec()
_BANK = {"experts": _D.experts, "top_k": _D.top_k, "shared": _D.shared}


def lab(
    action: Annotated[str, typer.Argument(help=one_of(Action))] = "list",
    name: Annotated[str, typer.Argument(help="Of an experiment (collapse) or its code (E2).")] = "",
    setting: Annotated[str, typer.Option(help=one_of(Setting))] = "quick",
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    seeds: Annotated[int | None, typer.Option(help="How many; as the setting has.")] = None,
    strategy: Annotated[
        list[str] | None, typer.Option(help="An arm of 'balancing', as none, auxiliary=0.01 or sign=0.02.")
    ] = None,
    experts: Annotated[int | None, typer.Option(help="Of the mixture of 'balancing'.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Experts a token is sent to, of 'balancing'.")] = None,
    shared: Annotated[int | None, typer.Option(help="Shared experts of 'balancing'.")] = None,
    as_json: Json = False,
) -> None:
    """Experiments that train small models: list them, run one here, show what was found."""
    asked = _one_of("action", action, Action)
    if asked == "list":
        return _list(as_json)
    if not name:
        raise ConfigError(f"name (): must be an experiment to {asked}, such as collapse")
    which = _named(name)
    if asked == "show":
        return _show(which, as_json)
    chosen = {"experts": experts, "top_k": top_k, "shared": shared}
    spec = question(
        which,
        _one_of("setting", setting, Setting),
        seed=seed,
        seeds=seeds,
        strategies=[picks.parse(one) for one in strategy or ()],
        bank=_bank(which, chosen),
    )
    _run(spec, as_json)


def _one_of(field: str, value: str, kind: Any) -> Any:
    if value.lower() not in get_args(kind):
        raise ConfigError(f"{field} ({value[:60]}): must be {one_of(kind).rstrip('.')}")
    return value.lower()


def _named(name: str) -> Experiment:
    """The experiment of that name or code. Raises ConfigError with close matches."""
    codes = ((row.code, one) for one, row in TABLE.items() if row.code)
    return lookup.find("lab", name, {one: one for one in TABLE}, codes)


def _bank(which: Experiment, chosen: dict[str, int | None]) -> tuple[int, int, int] | None:
    given = {name: value for name, value in chosen.items() if value is not None}
    if which == "balancing":
        filled = {**_BANK, **given}
        return filled["experts"], filled["top_k"], filled["shared"]
    if given:
        first, value = next(iter(given.items()))
        raise ConfigError(f"{first} ({value}): must be left out: {which} has a mixture of its own")
    return None


# -- list ------------------------------------------------------------------------------------------


def _list(as_json: bool) -> None:
    known = list(_known())
    rows = [
        {
            "lab": one,
            **row._asdict(),
            "runs": [_row(path, found) for path, found in known if _lab(found) == one],
        }
        for one, row in TABLE.items()
    ]
    cells = [["lab", "code", "runs", "question"]]
    cells += [[row["lab"], row["code"], _origins(row["runs"]), row["question"]] for row in rows]
    answer({"labs": rows}, as_json, table(cells))


def _known() -> Iterator[tuple[str | None, Bundle]]:
    """Whole runs of experiments with the name under which they ship, newest first; those made here before."""
    runs_dir = Settings.load().runs_dir
    own = [(None, path) for path in bundle.published(runs_dir)]
    shipped = [(path.parent.name, path.parent) for path in sorted(REFERENCE.glob("*/manifest.json"))]
    found: list[tuple[str | None, Bundle]] = []
    for reference, path in (*own, *shipped):
        try:
            one = bundle.read(path)
        except StoreError:
            continue  # `ingest` and `doctor` say what is wrong with it
        if one.manifest.complete and _lab(one) in TABLE:
            found.append((reference, one))
    yield from sorted(found, key=lambda one: (one[0] is not None, -one[1].manifest.created.timestamp()))


def _lab(found: Bundle) -> str:
    return str(found.manifest.spec.get("lab"))


def _row(reference: str | None, found: Bundle) -> dict[str, Any]:
    manifest = found.manifest
    return {
        "run_id": manifest.run_id,
        "reference": reference,
        "setting": (manifest.spec.get("training") or {}).get("setting"),
        "created": manifest.created.isoformat(timespec="seconds"),
        "device": manifest.provenance.get("device"),
        "duration_s": manifest.duration_s,
        "bundle": str(found.path),
    }


def _origins(runs: list[dict[str, Any]]) -> str:
    said = dict.fromkeys(f"{'shipped' if run['reference'] else 'here'} {run['setting']}" for run in runs)
    return ", ".join(said) or "-"


# -- run and show ----------------------------------------------------------------------------------


def _run(spec: RunSpec, as_json: bool) -> None:
    settings = Settings.load()
    job = ask(settings, spec)
    found = bundle.read(settings.runs_dir / finished(job))
    values = {**_row(None, found), "lab": spec.lab, "reused": job.reused, **_findings(found)}
    how = (
        "answered from the store" if job.reused else f"trained in {quantity(found.manifest.duration_s, 's')}"
    )
    answer(values, as_json, [f"run {values['run_id']}  ({how}, seed {spec.seed})", *_lines(found)])


def _show(which: Experiment, as_json: bool) -> None:
    """The newest run of each setting made here, and those that ship."""
    newest: dict[tuple[bool, str], tuple[str | None, Bundle]] = {}
    for reference, found in _known():
        if _lab(found) == which:
            newest.setdefault((reference is not None, _row(reference, found)["setting"]), (reference, found))
    if not newest:
        raise ConfigError(f"lab ({which}): has no run here and none ships; start one with: lab run {which}")
    runs = [{**_row(reference, found), **_findings(found)} for reference, found in newest.values()]
    row = TABLE[which]
    text = [f"{row.code} {row.title}: {row.question}".strip(), f"expected: {row.expected}"]
    for reference, found in newest.values():
        one = _row(reference, found)
        text += ["", f"{reference or 'made here'}, {one['setting']}, {one['created'][:10]}, {one['device']}"]
        text += _lines(found)
    answer({"lab": which, **row._asdict(), "runs": runs}, as_json, text)


def _findings(found: Bundle) -> dict[str, Any]:
    return {
        "findings": found.manifest.summary.get("findings", {}),
        "rules": found.manifest.provenance.get("rules"),
    }


def _lines(found: Bundle) -> list[str]:
    """Findings as columns: name, value, interval, seeds."""
    rows = [["finding", "value", "95 % interval", "seeds"]]
    for name, told in _findings(found)["findings"].items():
        ends = [told.get("low"), told.get("high")]
        span = "-" if None in ends else " to ".join(figure(float(end)) for end in ends)
        value = f"{figure(told['value'])} {told.get('unit') or ''}".strip()
        rows.append([name, value, span, str(told.get("seeds", "-"))])
    return table(rows)
