"""Claims: how many came out how, as stacked bars. `counted` frame: group, verdict, claims."""

from __future__ import annotations

import json

import altair as alt
import pandas as pd

from app.figure import Figure, draw, layers, paint
from moe_core.claims.verdict import OUTCOMES
from moe_core.report.palette import ROLES

# Palette roles that mean neither dense nor mixture anywhere else.
ROLE = {
    "holds": "teal",
    "holds under its condition": "purple",
    "does not hold": "pink",
    "undecided": "ochre",
    "no evidence": "limit",
    "not testable here": "ink",
}
assert set(ROLE) == set(OUTCOMES)


def verdicts(counted: pd.DataFrame, by: str) -> Figure:
    """A bar a group, the longest first, from what holds to what nothing settles."""
    order = {outcome: place for place, outcome in enumerate(OUTCOMES)}
    data = counted.assign(
        role=counted["verdict"].map(ROLE), place=counted["verdict"].map(order), middle=0.0
    ).sort_values(["group", "place"], ignore_index=True)
    ends = data.groupby("group")["claims"].cumsum()
    data["middle"] = ends - data["claims"] / 2
    totals = data.groupby("group")["claims"].sum().sort_values(ascending=False)
    y = alt.Y("group:N", sort=list(totals.index), title=None, axis=alt.Axis(labelLimit=160, minExtent=90))
    x = alt.X("claims:Q", stack="zero", title="claims", axis=alt.Axis(tickMinStep=1))
    tip = [alt.Tooltip("group:N", title=by), alt.Tooltip("verdict:N"), alt.Tooltip("claims:Q")]
    bars = (
        alt.Chart()
        .mark_bar(opacity=0.45)
        .encode(x=x, y=y, color=_legend(data), order=alt.Order("place:Q"), tooltip=tip)
    )
    words = alt.Chart().mark_text(fontSize=11).encode(x=alt.X("middle:Q"), y=y, text="claims:Q")
    chart = layers(bars, paint(words, "ink"), data=data, height=28 * len(totals) + 60)
    title = _story(counted, by)
    return draw(title, f"Verdicts by {by} as stacked bars. {title}.", chart, counted)


def _legend(data: pd.DataFrame) -> alt.Color:
    """The verdicts that there are, each in the colour of its role, in the order of the stack."""
    there = set(data["verdict"])
    known = {role: outcome for outcome, role in ROLE.items() if outcome in there}
    legend = alt.Legend(
        orient="top", title=None, values=list(known), labelExpr=f"{json.dumps(known)}[datum.label]", columns=3
    )
    return alt.Color("role:N", scale=alt.Scale(domain=list(ROLES)), legend=legend)


def _story(counted: pd.DataFrame, by: str) -> str:
    """Where most fails, and where most waits for a run."""
    parts = []
    for verdict, words in (("does not hold", "fails"), ("no evidence", "waits for a run")):
        rows = counted[counted["verdict"] == verdict]
        if len(rows):
            top = rows.nlargest(1, "claims").to_dict("records")[0]
            parts.append(f"most that {words} is of {by} {top['group']} ({top['claims']} claims)")
    if not parts:
        return f"Nothing fails and nothing waits, whatever the {by}"
    said = "; ".join(parts)
    return said[:1].upper() + said[1:]
