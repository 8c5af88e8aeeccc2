"""`decide`: dense or mixture, for one spec; verdict, factors, flips, and what speaks against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moe_core import inputs, registry
from moe_core.cli.ask import read_text
from moe_core.cli.devices import HELP, named
from moe_core.cli.model import Config, described
from moe_core.cli.output import Json, answer
from moe_core.errors import ConfigError
from moe_core.specs import Architecture

if TYPE_CHECKING:
    from moe_core.claims.ledger import Settled


def decide(
    spec: Annotated[str | None, typer.Option(help="A JSON file ('-' is standard input).")] = None,
    link: Annotated[str | None, typer.Option(help="A link of the dashboard, or its query alone.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="chat, batch, device, retrieval, code or agentic.")
    ] = None,
    mixture: Annotated[str | None, typer.Option(help="The mixture, by name.")] = None,
    config: Config = None,
    dense: Annotated[str | None, typer.Option(help="The dense model, by name.")] = None,
    rule: Annotated[
        str | None,
        typer.Option(help="active, total, sqrt, epoch, published or own: by what they are equals."),
    ] = None,
    hardware: Annotated[str | None, typer.Option(help=HELP)] = None,
    devices: Annotated[int | None, typer.Option(help="How many, for each; else its own fewest.")] = None,
    precision: Annotated[str | None, typer.Option(help="Of the weights: stored, a format, or a mix.")] = None,
    batch: Annotated[int | None, typer.Option(help="Sequences at once.")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens of each sequence when it ends.")] = None,
    budget: Annotated[float | None, typer.Option(help="Dollars a million tokens written.")] = None,
    as_json: Json = False,
) -> None:
    """Dense or mixture? One verdict with its margin, why, what would flip it, and what speaks against it."""
    from moe_core.decide.flips import flips
    from moe_core.decide.verdict import decide as judge

    said = {
        "preset": preset, "mixture": mixture, "dense": dense, "rule": rule,
        "hardware": None if hardware is None else named(hardware),
        "devices": devices, "precision": precision, "budget": budget,
    }  # fmt: skip
    said = {name: value for name, value in said.items() if value is not None}
    own, notes = (None, ()) if config is None else described(config)
    work = {name: value for name, value in {"batch": batch, "context": context}.items() if value is not None}
    more = (said, work, own)
    found = judge(*(_of_scenario(link, *more) if spec is None else _of_file(spec, *more)))
    turns = flips(found)
    notes += tuple(note for name in (mixture, dense) if name for note in registry.called(name))
    answer({**_values(found, turns), "notes": list(notes)}, as_json, [*_lines(found, turns), *notes])


def _of_file(
    name: str, said: dict[str, Any], work: dict[str, Any], own: Architecture | None
) -> tuple[Any, Any]:
    """The spec of a file with the options over it, and the load that is heard for its mixture."""
    from moe_core.cli.hear import hear
    from moe_core.decide.pair import candidate
    from moe_core.decide.spec import DecideSpec
    from moe_core.scenario.spec import nearest_run

    values = _file(name) | said | _side(own)
    if work:
        values["workload"] = {**(values.get("workload") or {}), **work}
    spec = DecideSpec.of(values)
    bank = candidate(spec.mixture).architecture.experts
    known = None if bank is None else (bank.count, bank.top_k, bank.shared)
    return spec, hear(nearest_run(known, "carved", 256, spec.workload.batch, "auto"), known)


def _side(own: Architecture | None) -> dict[str, Any]:
    """The user's own model on the side that it is of."""
    return {} if own is None else {"dense" if own.experts is None else "mixture": own}


def _of_scenario(
    link: str | None, said: dict[str, Any], work: dict[str, Any], own: Architecture | None
) -> tuple[Any, Any]:
    """The dashboard's scenario with the options over it, and the load that is heard there."""
    from moe_core.cli.hear import hear
    from moe_core.decide.spec import DecideSpec
    from moe_core.scenario.decision import decision
    from moe_core.scenario.link import scenario

    values = {} if link is None else inputs.query(link)
    names = {"mixture": "architecture", "devices": "many", "budget": "budget_usd"}
    plain = ("preset", "mixture", "hardware", "devices", "budget")
    values |= {names.get(name, name): str(said[name]) for name in plain if name in said}
    values |= {"batch": str(work["batch"])} if "batch" in work else {}
    asked = scenario(values)
    if own is not None and own.experts is not None:
        asked = asked._replace(own=own, experts=None, top_k=None, shared=None)
    if "context" in work:
        written = min(asked.answer, max(work["context"] // 4, 1))
        asked = asked._replace(answer=written, prompt=max(work["context"] - written, 1), cached=0)
    spec = decision(asked)
    changes: dict[str, Any] = {name: said[name] for name in ("dense", "rule", "precision") if name in said}
    changes |= {name: one for name, one in _side(own).items() if name == "dense"}
    if changes:
        if "dense" in changes:
            changes.setdefault("rule", None)
        elif "rule" in changes:
            changes["dense"] = None
        spec = DecideSpec.of({**_kept(spec), **changes})
    return spec, hear(asked.run_spec(), asked.bank, asked.load)


def _kept(spec: Any) -> dict[str, Any]:
    """What is said in a spec; what is left out is left out again."""
    values: dict[str, Any] = spec.model_dump(mode="json")
    return {name: value for name, value in values.items() if value is not None or name == "devices"}


def _file(name: str) -> dict[str, Any]:
    """The spec in a file. Raises ConfigError when it is not a JSON object."""
    what = inputs.named("spec", name)
    values = inputs.parse(read_text(name, "spec"), what)
    if not isinstance(values, dict):
        raise ConfigError(f"{what}: must be a JSON object")
    return values


def _values(found: Any, turns: Any) -> dict[str, Any]:
    """The verdict as plain values. Margins and scores are from the mixture's side."""
    from moe_core.decide.counter import counters
    from moe_core.decide.headline import headline

    pair = found.pair
    return {
        "start": _starts(found),
        "verdict": found.winner,
        "state": found.state,
        "headline": headline(found, turns),
        "devices": dict(zip(("mixture", "dense"), found.case.devices, strict=True)),
        "joules": dict(zip(("mixture", "dense"), (one.joules for one in found.case.both), strict=True)),
        "name": found.name,
        **{"margin": found.margin, "margin_low": found.low, "margin_high": found.high},
        "firm": found.firm,
        "reason": found.reason,
        "pair": {
            "mixture": pair.of("mixture").name,
            "dense": pair.of("dense").name,
            "rule": pair.rule.id,
            "source": pair.source,
            "caveat": pair.rule.caveat,
        },
        "factors": [_factor(one) for one in found.factors],
        "flips": [
            {
                **{"knob": one.knob.id, "unit": one.knob.unit, "at": one.at, "low": one.low},
                **{"high": one.high, "below": one.below, "above": one.above, "now": one.now},
                "sentence": one.sentence,
            }
            for one in turns
        ],
        "counter_arguments": [one._asdict() for one in counters(found)],
        "spec": found.spec.model_dump(mode="json"),
    }


def _factor(one: Any) -> dict[str, Any]:
    """A factor, what it cites, and what became of the claims that check what the documents say of it."""
    facts = [fact.model_dump() for fact in one.facts]
    return {**one._asdict(), "facts": facts, "checked": [row.sentence for row in _checked(one.claims)]}


def _checked(names: Sequence[str]) -> list[Settled]:
    """Claims settled with what the runs here and the shipped ones found."""
    from moe_core.claims.ledger import settle
    from moe_core.claims.spec import claims
    from moe_core.cli.claims import found

    known, findings = claims(), found()
    return [settle(known[name], findings) for name in names]


def _starts(found: Any) -> dict[str, Any]:
    """How each side is started in its fastest layout."""
    from moe_core.scenario import start

    sides = zip(("mixture", "dense"), found.case.both, strict=True)
    return {name: [one._asdict() for one in start.starts(start.of(side))] for name, side in sides}


def _lines(found: Any, turns: Any) -> list[str]:
    """The verdict for a reader."""
    from moe_core.decide.counter import counters
    from moe_core.decide.headline import answer, headline
    from moe_core.scenario.answer import energy

    firm = "" if found.firm else "; not firm: the error of the predicted times could turn it"
    band = f"{found.low:+.2f} to {found.high:+.2f} over the error of the predicted times"
    lines = [
        f"{headline(found, turns)}.",
        f"answer    {answer(found.winner, found.firm)}, margin {found.margin:+.2f} ({band}{firm})",
        f"pair      {found.pair.sentence}",
        f"why       {found.reason}",
        f"energy    mixture {energy(found.case.both[0])}; dense {energy(found.case.both[1])}",
        f"against   {counters(found)[0].sentence}",
    ]
    for one in found.factors:
        if one.weight:
            side = one.winner or "even"
            lines.append(f"{one.title:<22} {side:<8} {one.score:+.2f} x {one.weight:g}  {one.evidence}")
        if one.weight and one.claims:
            said = ", ".join(f"{row.claim.id} {row.outcome}" for row in _checked(one.claims))
            lines.append(f"{'':<22} checked: {said}")
    return [*lines, *(f"flips     {one.sentence}" for one in turns)]
