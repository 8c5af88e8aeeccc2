"""`claims`: what two documents claim, held against what is computed now, was run here, or was published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from moe_core.cli.output import Json, answer, table
from moe_core.errors import ConfigError

if TYPE_CHECKING:
    from moe_core.claims.findings import Findings
    from moe_core.claims.ledger import Settled

NARROW = 70  # characters of a claim in the list


def claims(
    id: Annotated[str | None, typer.Argument(help="One row, such as A41; all without it.")] = None,
    verdict: Annotated[str | None, typer.Option(help="Only this verdict, such as 'no evidence'.")] = None,
    document: Annotated[str | None, typer.Option(help="Only this document: A or B.")] = None,
    topic: Annotated[str | None, typer.Option(help="Only this topic, such as routing.")] = None,
    as_json: Json = False,
) -> None:
    """Settle what the documents claim: claimed, found, how, verdict, condition, and how to check it."""
    from moe_core.claims import export
    from moe_core.claims.ledger import by_id

    every = settled()
    if id is not None:
        one = by_id(every, id)
        return answer(export.values(one), as_json, _one(one))
    wanted = {"verdict": verdict, "document": document, "topic": topic}
    shown = [one for one in every if _kept(one, wanted, every)]
    answer(export.ledger(shown, every), as_json, _list(shown))


def settled() -> tuple[Settled, ...]:
    """The ledger with what the runs here and the shipped ones found."""
    from moe_core.claims.ledger import ledger

    return ledger(found())


def found() -> Findings:
    """What the complete runs of experiments found, made here and shipped."""
    from moe_core.runs.findings import findings
    from moe_core.settings import REFERENCE, Settings

    return findings(Settings.load().runs_dir, REFERENCE)


def _kept(one: Settled, wanted: dict[str, str | None], every: tuple[Settled, ...]) -> bool:
    """Whether a row is what was asked for. Raises ConfigError for a word that no row could have."""
    from moe_core.claims.export import filters

    for field, word in wanted.items():
        choices = filters(every)[field]
        if word is not None and word not in choices:
            raise ConfigError(f"{field} ({word[:40]}): must be one of {', '.join(choices)}")
    said = {"verdict": one.outcome, "document": one.claim.document, "topic": one.claim.topic}
    return all(word in (None, said[field]) for field, word in wanted.items())


def _list(shown: list[Settled]) -> list[str]:
    from moe_core.claims.ledger import counts

    rows = [[one.claim.id, one.outcome, _cut(one.claim.claim), one.claimed, _cut(one.found)] for one in shown]
    many = ", ".join(f"{number} {outcome}" for outcome, number in counts(shown).items() if number)
    head = ["claim", "verdict", "what is claimed", "number claimed", "number found"]
    return [*table([head, *rows]), f"{len(shown)} claims: {many}" if shown else "no claim is like that"]


def _cut(text: str) -> str:
    return text if len(text) <= NARROW else f"{text[: NARROW - 3]}..."


def _one(one: Settled) -> list[str]:
    claim = one.claim
    lines = [f"{claim.id}  {claim.claim}", f"verdict    {one.outcome}"]
    lines += [f"condition  {claim.condition}"] if claim.condition else []
    lines += [f"because    {claim.reason}"] if claim.reason else []
    for found in one.evidence:
        lines.append(f"{found.evidence.role:<10} {found.evidence.measures}: {found.number}{_against(found)}")
        lines.append(f"           {found.source.kind}: {found.source.detail}")
        lines += [f"           again: {found.link.command}"] if found.link.command else []
    return lines


def _against(found: Any) -> str:
    """What a number is held against, and how it came out."""
    from moe_core.claims.export import AGREED, against

    said = against(found)
    return f" (claimed: {said}; {AGREED[found.agrees]})" if said and found.computed is not None else ""
