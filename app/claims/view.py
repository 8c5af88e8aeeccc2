"""Claims: what the page says and shows of the ledger. Every verdict on it is computed while it is drawn."""

from __future__ import annotations

import streamlit as st

from app import asked, panels
from app.architectures.tables import link as address
from app.claims import frames
from app.panels import Number, Source
from app.words import escape
from moe_core.claims import spec
from moe_core.claims.export import AGREED, against
from moe_core.claims.ledger import Exhibit, Settled, counts
from moe_core.claims.verdict import OUTCOMES
from moe_core.report.text import many

TABS = ("Corrections", "All claims", "One claim")
COLOURS = {
    "holds": "green",
    "holds under its condition": "violet",
    "does not hold": "red",
    "undecided": "orange",
    "no evidence": "gray",
    "not testable here": "gray",
}
ROLES = {"test": "tested", "beyond": "beyond its condition", "beside": "beside it"}


def source() -> Source:
    """Provenance of the counts."""
    return Source(
        "modelled",
        "each verdict is computed now from the number claimed, the number found and the tolerance in "
        "data/claims.toml; each row says where its numbers come from",
    )


def sentence() -> str:
    """The page's answer: how the claims came out."""
    every = frames.settled()
    number = counts(every)
    said = (
        f"Of {many(len(every), 'claims')} {number['holds']} hold, {number['holds under its condition']} only "
        f"under a condition, {number['does not hold']} do not"
    )
    open_ = {"wait for runs": number["no evidence"], "stay open within their error": number["undecided"]}
    rest = " and ".join(f"{count} {words}" for words, count in open_.items() if count)
    return f"{said}; {rest}" if rest else said


def numbers() -> tuple[Number, ...]:
    """What holds, what does not, what waits, what cannot be tested."""
    every, here = frames.settled(), source()
    number = counts(every)
    open_, testable = number["no evidence"] + number["undecided"], sum(one.claim.testable for one in every)
    return (
        Number("Hold", f"{number['holds']}", f"of {testable} that can be tested", here),
        Number(
            "Hold under a condition",
            f"{number['holds under its condition']}",
            "the row says which, and what was found beyond it",
            here,
        ),
        Number("Do not hold", f"{number['does not hold']}", "outside of the tolerance that is stated", here),
        Number(
            "Open",
            f"{open_}",
            f"{number['no evidence']} without their run, {number['undecided']} undecided; "
            f"{number['not testable here']} more cannot be tested here",
            here,
        ),
    )


def main() -> None:
    """Verdict counts."""
    by = asked.segments("By", tuple(frames.GROUPS), "by")
    panels.show(frames.figure(by), "verdicts", source(), caveat=f"by {by.lower()} of the claim")


# -- tabs ------------------------------------------------------------------------------------------


def corrections() -> None:
    """What is right where the documents are wrong, the rows that it corrects, and how those came out."""
    every = frames.corrections()
    st.caption(f"{many(len(every), 'corrections')}, with the numbers that are found now.")
    cells = []
    for place, (one, words, rows) in enumerate(every):
        if place % 2 == 0:
            cells = list(panels.pair())
        with cells[place % 2], panels.aside(f"{one.number}. {one.title}"):
            st.markdown(escape(words))
            for row in rows:
                st.caption(f"{badge(row)} **{row.claim.id}** {escape(row.claim.claim)}")


def badge(one: Settled) -> str:
    """A verdict inside a line of Markdown."""
    return f":{COLOURS[one.outcome]}-badge[{one.outcome}]"


def rows() -> None:
    """Filters, search, the table, files."""
    wanted, words = _filters()
    shown = frames.narrowed(wanted, words)
    if not shown:
        st.caption("No claim is like that. Take a filter back, or search for fewer words.")
        return
    number = counts(shown)
    st.caption(", ".join([many(len(shown), "claims"), *(f"{n} {o}" for o, n in number.items() if n)]))
    st.dataframe(
        frames.table(shown),
        hide_index=True,
        height=min(35 * (len(shown) + 1) + 3, 520),
        alt="Claims, one a row",
        column_config={
            "id": st.column_config.TextColumn("row", pinned=True, width=50),
            "claim": st.column_config.TextColumn("what is claimed, in our words", width="large"),
            "verdict": st.column_config.TextColumn("verdict", width="medium"),
            "claimed": "number claimed",
            "found": "number found",
            "again": st.column_config.TextColumn("how to check it", width="medium"),
        },
    )
    with st.container(horizontal=True, gap="small"):
        for label, name, mime, made in (
            ("CSV", "csv", "text/csv", frames.csv),
            ("JSON, with all evidence", "json", "application/json", frames.as_json),
        ):
            st.download_button(
                label,
                made(shown),
                f"moescope-claims.{name}",
                mime,
                on_click="ignore",
                key=f"claims_{name}",
                icon=":material/download:",
            )


def _filters() -> tuple[dict[str, str], str]:
    """What was picked of each field, and the words that are searched for; all of it in the URL."""
    wanted = {}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        for field, values in frames.choices().items():
            wanted[field] = asked.pick(field.capitalize(), [frames.ALL, *values], field, width=190)
        words = st.text_input(
            "Search", key="search", bind="query-params", placeholder="words, a row, a model", max_chars=80
        )
    return wanted, words or ""


def one() -> None:
    """One row with all its evidence."""
    known = frames.by_id()
    row = known[asked.pick("Row", list(known), "claim", width=190)]
    claim = row.claim
    st.markdown(f"{badge(row)} **{claim.id}** {escape(claim.claim)}")
    document = spec.ledger().document[claim.document]
    st.caption(escape(f"Document {claim.document}: {document}. Topic: {claim.topic}; {claim.type}."))
    st.caption(escape(f"{row.outcome[:1].upper()}{row.outcome[1:]}: {OUTCOMES[row.outcome]}."))
    if claim.condition:
        st.markdown(f"**Where it holds:** {escape(claim.condition)}")
    if claim.reason:
        st.markdown(f"**Why not:** {escape(claim.reason)}")
    for found in row.evidence:
        _piece(found)


def _piece(found: Exhibit) -> None:
    """One number: what it is, what it is held against, where it comes from, how to make it again."""
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            measures = found.evidence.measures
            st.markdown(f"**{ROLES[found.evidence.role].capitalize()}:** {escape(measures)}", width="stretch")
            if found.computed is not None:
                panels.badge(found.source)
        stated = against(found)
        held = f"; claimed {stated}: {AGREED[found.agrees]}" if stated and found.computed is not None else ""
        st.markdown(escape(f"{found.number}{held}"))
        st.caption(escape(found.source.detail))
        if (page := found.link.page) and (panels.PAGES / f"{page}.py").exists():
            panels.link(page, f"Check it on {page.capitalize()}", found.link.query)
        if found.link.command:
            st.code(found.link.command, language="bash")
        if found.link.text and (url := address(found.link.text)):
            st.markdown(f":material/open_in_new: [{escape(found.link.text)}]({url})")
