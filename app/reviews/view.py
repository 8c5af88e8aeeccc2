"""Reviews: the parts of the Reviews page. What a team decided, on which scenarios, and why."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pandas as pd
import streamlit as st

from app import data, panels, shelf
from app.decide import keep
from app.panels import Number, Source
from app.reviews import verdict as ruled
from app.words import escape, size
from moe_core import hardware
from moe_core.errors import short
from moe_core.report import argument, decided, deck, html, pdf
from moe_core.report import story as stories
from moe_core.report.compare import comparison
from moe_core.report.kinds import compute
from moe_core.report.plots import Plot
from moe_core.report.story import Story
from moe_core.report.text import slug
from moe_core.review import MOST, Case, Decision, Review, Saved
from moe_core.scenario.spec import Scenario
from moe_core.store import reviews, scenarios

WRITERS = {
    "pptx": ("PowerPoint, charts can be edited", deck.deck),
    "html": ("HTML, one file", html.html),
    "pdf": ("PDF", pdf.pdf),
}
MODELLED = Source("modelled", "; ".join(origin.detail for origin in stories.SOURCES))


# -- which one -------------------------------------------------------------------------------------


def listing() -> pd.DataFrame:
    """Every review, newest first."""
    return reviews.listing(data.door().store)


def choose(table: pd.DataFrame) -> Saved | None:
    """The review and version that are open; they stand in the URL, so that a link opens the same."""
    titles = {str(row["review_id"]): str(row["title"]) for row in table.to_dict("records")}
    _adopt(titles)
    found = st.selectbox("Review", list(titles), format_func=lambda one: titles[one], key="review", width=420)
    if found not in titles:
        return None
    latest = int(table.set_index("review_id").loc[found, "version"])  # type: ignore[arg-type]
    numbers = list(range(latest, 0, -1))
    if st.session_state.get("review_version") not in numbers:
        st.session_state["review_version"] = latest
    version = st.selectbox(
        "Version", numbers, key="review_version", width=110,
        format_func=lambda one: f"{one}, newest" if one == latest else str(one),
    )  # fmt: skip
    st.query_params.update({"review": found, "review_version": str(version)})
    return reviews.read(data.door().store, found, version)


def _adopt(titles: Mapping[str, str]) -> None:
    """What a link asks for, the first time. Not bound: a widget's own link would hold the title."""
    asked, version = st.query_params.get("review"), st.query_params.get("review_version", "")
    if "review" in st.session_state or asked is None:
        return
    if asked not in titles:
        shelf.say(f"review ({short(asked)}): must be a review saved here; the newest is shown")
        return
    st.session_state["review"] = asked
    if version.isdecimal():
        st.session_state["review_version"] = int(version[:9])


def nothing() -> None:
    """No review yet: what one is for, and how to begin."""
    panels.lead(
        "No review is saved yet: keep the scenario in the sidebar with its question, and why you chose"
    )
    st.caption(
        "A review holds up to four scenarios, your notes and a log of decisions. Every save is a new "
        "version; it leaves as PowerPoint with charts that can be edited, as HTML or as PDF."
    )


def start(scenario: Scenario) -> None:
    """Begin a review with the scenario in the sidebar."""
    with st.popover("New review", icon=":material/add:"), st.form("review_new", border=False):
        title = st.text_input("Title", max_chars=200, placeholder="A mixture for the support chat?")
        question = st.text_area("Question", max_chars=1_000, height=80)
        name = st.text_input(
            "Name of the scenario in the sidebar", shelf.default_name(scenario), max_chars=80
        )
        author = st.text_input("Your name", st.session_state.get(shelf.AUTHOR, ""), max_chars=80)
        if st.form_submit_button("Save the review", type="primary"):
            shelf.attempt(partial(_create, title, question, name, author, scenario))


def _create(title: str, question: str, name: str, author: str, scenario: Scenario) -> None:
    case = Case.parse(shelf.case(name, scenario))
    review = Review.parse(
        {"title": title, "question": question, "scenarios": (case,), "verdict": keep.of_sidebar(scenario)}
    )
    st.session_state[shelf.AUTHOR] = author
    st.session_state["review_next"] = reviews.create(data.door().store, review, author)


def follow() -> None:
    """Open the review that was just made. Before its selectbox is drawn: a widget's state is set earlier."""
    made = st.session_state.pop("review_next", None)
    if made is not None:
        st.session_state["review"] = made
        st.session_state.pop("review_version", None)


# -- answer ----------------------------------------------------------------------------------------


def told(saved: Saved) -> Story:
    """The review as it is exported; drawn once for each version and log."""
    return _told(str(data.door().settings.data_dir), saved.review_id, saved.version, len(saved.log), saved)


@st.cache_resource(show_spinner=False, max_entries=64)
def _told(_directory: str, review_id: str, version: int, decisions: int, _saved: Saved) -> Story:
    return stories.tell(_saved)


def sentence(saved: Saved, story: Story) -> str:
    """The verdict if there is one, else the last decision, else what is compared."""
    if story.lead:
        return story.lead
    if saved.log:
        last = saved.log[-1]
        return f"Decided on {last.when:%Y-%m-%d}: {last.decision.what}"
    names = [case.name for case in saved.review.scenarios]
    return f"Not decided yet: {' or '.join(names) or 'there is no scenario to compare'}"


def question(saved: Saved) -> str:
    """Title and question, as Markdown."""
    return f"**{escape(saved.review.title)}**  \n{escape(saved.review.question)}"


def numbers(saved: Saved) -> tuple[Number, ...]:
    """Memory of each scenario against its device."""
    found = []
    for name, case in stories.resolve(saved).items():
        value = compute("memory.device", case, {})
        usable = compute("memory.usable", case, {})
        room = f"{hardware.title(case.hardware)} can give {size(float(usable or 0))}"
        shown = size(value) if isinstance(value, int | float) else "does not fit"
        found.append(Number(f"{escape(name)}, full size", shown, f"{case.label}; {room}", MODELLED))
    return tuple(found[:MOST])  # a rival may be the fifth


def main(saved: Saved, story: Story) -> None:
    """The first chart: of a verdict its factors."""
    found = decided.read(saved.review.verdict)
    if found is not None:
        panels.decides(lambda: found)
    drawn = [block for block in story.blocks if isinstance(block, Plot)]
    if drawn:
        _show(drawn[0], saved)


def charts(saved: Saved, story: Story) -> None:
    """The other charts."""
    for plot in [block for block in story.blocks if isinstance(block, Plot)][1:]:
        _show(plot, saved)


def _show(plot: Plot, saved: Saved) -> None:
    found = decided.read(saved.review.verdict) if plot.name == argument.NAME else None
    source, caveat = (MODELLED, "full size") if found is None else ruled.source(found)
    panels.show(plot.figure, f"review-{plot.name}", source, caveat=caveat, cases=stories.resolve(saved))


# -- tabs ------------------------------------------------------------------------------------------


def compared(saved: Saved, scenario: Scenario) -> None:
    """The scenarios side by side, the scenario in the sidebar to add, and a link to each."""
    cases = stories.resolve(saved)
    rows = comparison(cases)
    columns = pd.DataFrame([(row.name, *row.values) for row in rows], columns=["", *cases])
    if len(cases) > 1:  # no scenario has an empty name, so no column is there twice
        columns.insert(1, " ", ["differs" if row.differs else "" for row in rows])
    if cases:
        st.dataframe(
            columns,
            hide_index=True,
            height="content",
            alt="The scenarios side by side; rows that differ are marked",
        )
    for at, case in enumerate(saved.review.scenarios):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{escape(case.name)}**", width="stretch")
            shelf.open_button(case, f"review_open_{at}")
            st.button(
                "Remove", key=f"review_remove_{at}", icon=":material/remove:", type="tertiary",
                on_click=shelf.attempt_quietly, args=(partial(_without, saved, case.name),),
            )  # fmt: skip
    if len(cases) >= MOST:
        st.caption(f"A review compares at most {MOST} scenarios: remove one to add another.")
        return
    _add(saved, scenario)


def _add(saved: Saved, scenario: Scenario) -> None:
    with st.form("review_add", border=True):
        st.markdown("**Add a scenario**")
        kept = shelf.names()
        where = st.selectbox(
            "Which", ["", *kept], format_func=lambda one: kept[one] if one else "the one in the sidebar"
        )
        name = st.text_input("Name", shelf.default_name(scenario), max_chars=80)
        note = st.text_input("Note", max_chars=1_000)
        ruling = st.checkbox(
            "The verdict on the scenario in the sidebar is this review's",
            saved.review.verdict is None,
            help="As the Decide page asks now. It takes the place of an earlier one.",
        )
        if st.form_submit_button("Add", icon=":material/add:"):
            shelf.attempt(partial(_with, saved, scenario, where or "", name, note, ruling))


def _with(saved: Saved, scenario: Scenario, where: str, name: str, note: str, ruling: bool) -> None:
    store = data.door().store
    case = scenarios.read(store, where).case if where else Case.parse(shelf.case(name, scenario, note))
    review = saved.review.with_case(case)
    verdict = keep.of_sidebar(scenario) if ruling and not where else None
    _save(saved, review if verdict is None else review.changed(verdict=verdict))


def _without(saved: Saved, name: str) -> None:
    left = tuple(case for case in saved.review.scenarios if case.name != name)
    _save(saved, saved.review.changed(scenarios=left))


def notes(saved: Saved) -> None:
    """Title, question and notes; saving them is a new version."""
    with st.form("review_notes", border=False):
        title = st.text_input("Title", saved.review.title, max_chars=200)
        question = st.text_area("Question", saved.review.question, max_chars=1_000, height=80)
        text = st.text_area("Notes", saved.review.notes, max_chars=50_000, height=240)
        author = st.text_input("Your name", st.session_state.get(shelf.AUTHOR, ""), max_chars=80)
        if st.form_submit_button("Save as a new version", type="primary"):
            st.session_state[shelf.AUTHOR] = author
            shelf.attempt(
                lambda: _save(saved, saved.review.changed(title=title, question=question, notes=text))
            )


def decisions(saved: Saved) -> None:
    """The log, and a line to add. Nothing in it is ever changed."""
    if saved.log:
        rows = [(e.when, e.version, e.decision.who, e.decision.what, e.decision.why) for e in saved.log]
        columns = ["when (UTC)", "version", "who", "what", "why"]
        st.dataframe(pd.DataFrame(rows, columns=columns), hide_index=True, alt="Decisions, oldest first")
    else:
        st.caption("No decision is logged yet. What is logged here stays: it says later why.")
    with st.form("review_decide", clear_on_submit=True):
        who = st.text_input("Who", st.session_state.get(shelf.AUTHOR, ""), max_chars=80)
        what = st.text_input("What was decided", max_chars=1_000)
        why = st.text_area("Why", max_chars=50_000, height=100)
        if st.form_submit_button("Log it", type="primary"):
            shelf.attempt(lambda: _decide(saved, {"who": who, "what": what, "why": why}))


def _decide(saved: Saved, values: dict[str, str]) -> None:
    reviews.log(data.door().store, saved.review_id, Decision.parse(values))


def files(saved: Saved, story: Story) -> None:
    """The review as a deck, a document or a page; and what the command line says for the same."""
    with st.container(horizontal=True, gap="small"):
        for ending, (label, write) in WRITERS.items():
            st.download_button(
                label, partial(write, story), f"moescope-{slug(story.title)}.{ending}", on_click="ignore",
                key=f"review_{ending}", icon=":material/download:",
            )  # fmt: skip
    st.caption("To share this version of the review:")
    st.code(f"/reviews?review={saved.review_id}&review_version={saved.version}", language=None)
    st.caption("Each file carries a manifest; with it every number can be made again:")
    st.code(
        f"python -m moe_core export review --review {saved.review_id} --version {saved.version} "
        "--out review.pptx\n"
        "python -m moe_core reproduce review.pptx",
        language="bash",
    )


def versions(saved: Saved) -> None:
    """Who saved this version, and the way out."""
    by = f" by {escape(saved.author)}" if saved.author else ""
    st.markdown(
        f"Version {saved.version} of {saved.latest}, saved on {saved.created:%Y-%m-%d %H:%M} UTC{by}."
    )
    if saved.version < saved.latest:
        st.caption("An older version can be read and exported; changes go on from the newest.")
    if st.button("Delete this review", icon=":material/delete:", key="review_delete"):
        _confirm(saved)


@st.dialog("Delete this review?")
def _confirm(saved: Saved) -> None:
    st.markdown(
        f"**{escape(saved.review.title)}**, its {saved.latest} versions and its decision log go for good."
    )
    with st.container(horizontal=True):
        go = partial(reviews.delete, data.door().store, saved.review_id)
        if st.button(
            "Delete it", type="primary", key="review_delete_yes", on_click=shelf.attempt_quietly, args=(go,)
        ):
            st.rerun()
        if st.button("Keep it", key="review_delete_no"):
            st.rerun()


# -- what all share --------------------------------------------------------------------------------


def _save(saved: Saved, review: Review) -> None:
    author = st.session_state.get(shelf.AUTHOR, "")
    number = reviews.save(data.door().store, saved.review_id, review, author, base=saved.version)
    st.session_state["review_next"] = saved.review_id
    assert number == saved.version + 1
