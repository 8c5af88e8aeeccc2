"""Atlas: the parts of the architectures page about models as they are. Editing is in `workshop`."""

from __future__ import annotations

from functools import partial
from textwrap import shorten
from typing import Any

import pandas as pd
import streamlit as st

from app import models, panels
from app.architectures import anatomy, frames, tables
from app.asked import check, toggle
from app.figure import percent
from app.panels import Number, Source
from app.words import escape, size
from moe_core.errors import ConfigError
from moe_core.perf.precision import words
from moe_core.scenario import subjects
from moe_core.scenario.spec import Scenario
from moe_core.scenario.subjects import CONVENTIONS, DETAILS, METHODS, TWINS, Subject
from moe_core.units import count

MOST_COMPARED = 4


def source(model: Subject) -> Source:
    """The badge of a model: published facts, or computed from a configuration."""
    return Source("published" if model.standing == "published" else "modelled", model.source)


# -- answer ----------------------------------------------------------------------------------------


def sentence(model: Subject) -> str:
    """The page's answer about the chosen model."""
    counted = model.parameters
    if model.routing is None or model.sets is None:
        return f"{model.name} is dense: every token passes through all {count(counted.total)} parameters"
    share = percent(counted.active.incl_embeddings / counted.total)
    return (
        f"{model.name} keeps {count(counted.total)} parameters and passes a token through "
        f"{count(counted.active.incl_embeddings)} of them, {share}"
    )


def numbers(model: Subject, scenario: Scenario) -> tuple[Number, ...]:
    """Total, active by its three conventions, sets of experts, bytes of cache a token."""
    here, active = source(model), model.parameters.active
    total = f"{model.parameters.total:,} parameters, {METHODS[model.parameters.method]}"
    others = "embeddings included; "
    others += f"{count(active[1])} without the input table, {count(active[2])} without tables"
    return (
        Number("Total, full size", count(model.parameters.total), total, here),
        Number("Active, full size", count(active[0]), others, here),
        _sets(model, here),
        _cache(model, scenario),
    )


def _sets(model: Subject, here: Source) -> Number:
    if model.routing is None or model.sets is None:
        return Number("Sets of experts, full size", "1", "a dense layer leaves no choice", here)
    chosen = f"{model.sets:,} ways to choose {model.routing[1]} of {model.routing[0]}"
    inside = model.reachable
    if inside is not None and inside != model.sets:
        chosen += f"; {inside:,} inside its groups"
    return Number("Sets of experts, full size", count(model.sets), chosen, here)


def _cache(model: Subject, scenario: Scenario) -> Number:
    label = "KV cache a token, full size"
    try:
        kept = subjects.model(model).cache
    except ConfigError:
        return Number(label, "not known", "its layout has no closed form", source(model))
    each = kept.token_bytes("bf16")
    whole = size(kept.sequence_bytes(scenario.context, "bf16"))
    whole = f"{each:,} bytes in bf16; {whole} at {scenario.context:,} tokens"
    return Number(label, size(each), whole, Source("modelled", f"{model.name}: from its attention, in bf16"))


# -- chart and picker ------------------------------------------------------------------------------


def pick(scenario: Scenario) -> Subject:
    """The model looked at: the scenario's at first, and again whenever that changes."""
    options = list(models.names())
    check("subject", options, scenario.architecture)
    if wanted := st.session_state.pop("subject_wanted", None):
        st.session_state["subject"] = wanted
    followed = st.session_state.get("subject_follows")
    if followed is not None and followed != scenario.architecture:
        st.session_state["subject"] = scenario.architecture
    st.session_state["subject_follows"] = scenario.architecture
    if st.session_state.get("subject", scenario.architecture) not in options:
        st.session_state["subject"] = scenario.architecture
    found = st.selectbox(
        "Model looked at",
        options,
        index=options.index(scenario.architecture),
        key="subject",
        bind="query-params",
        persist_state="session",
        help="Every published model, dense ones too, and what this session imported or edited.",
    )
    return models.subject(found if found in options else scenario.architecture)


def controls() -> tuple[str, bool]:
    """Which convention of active the chart shows, and whether rumours are in it."""
    words = list(CONVENTIONS.values())
    check("convention", words, words[0])
    convention = st.selectbox(
        "Active counts",
        list(CONVENTIONS),
        format_func=CONVENTIONS.__getitem__,
        key="convention",
        bind="query-params",
        help="Papers differ in what they call active: "
        + "; ".join(f"{CONVENTIONS[c]}: {DETAILS[c]}" for c in DETAILS),
    )
    rumours = toggle("Show rumours", "rumours", "Hearsay, drawn hollow.")
    return (convention if convention in CONVENTIONS else next(iter(CONVENTIONS))), rumours


def landscape(model: Subject, convention: str, rumours: bool) -> None:
    """Everything published on one plot; a click looks at that model."""
    figure = frames.scatter(model, convention, rumours)
    caveat = "full size; click a point to look at that model"
    if rumours:
        caveat += "; hollow: rumoured, not a fact"
    facts = Source("published", f"{len(figure.data)} models of data/architectures, each with its source")
    key = _key("landscape", model)
    panels.show(figure, key, facts, caveat=caveat, on_select=partial(_clicked, f"chart_{key}"))


def _clicked(key: str) -> None:
    chosen = st.session_state[key]["selection"].get("model", [])
    if chosen and str(chosen[0].get("name")) in models.names():
        st.session_state["subject"] = st.session_state["landscape_clicked"] = str(chosen[0]["name"])


def _key(name: str, model: Subject) -> str:
    """A new key once another model is chosen elsewhere, so that what was clicked can be clicked again."""
    turn, clicked = st.session_state.get(f"{name}_turn", 0), st.session_state.get(f"{name}_clicked")
    if clicked is not None and clicked != model.name:
        turn += 1
        st.session_state.update({f"{name}_turn": turn, f"{name}_clicked": None})
    return f"{name}_{turn}" if turn else name


# -- one model -------------------------------------------------------------------------------------


def detail(model: Subject) -> None:
    """Parameters by component, three conventions of active, the block, the router, where it is from."""
    left, right = panels.pair()
    with left:
        facts = source(model)
        panels.show(frames.parameters(model), "parts", facts, caveat="solid: what one token passes through")
        _conventions(model)
    with right:
        drawn = frames.diagram(model)
        if drawn is None:
            st.info(
                f"{escape(model.name)} mixes kinds of layers that the closed form cannot draw; its integers "
                f"are exact as counted: {METHODS[model.parameters.method]}.",
                icon=":material/schema:",
            )
        else:
            panels.show(drawn, "block", facts, caveat="one layer of each kind")
        _words(model)


def _conventions(model: Subject) -> None:
    active, total = model.parameters.active, model.parameters.total
    with panels.aside("What a token uses, by the three published conventions"):
        rows = [
            {
                "convention": CONVENTIONS[name],
                "active": f"{number:,}",
                "of total": percent(number / total),
                "what it counts": DETAILS[name],
            }
            for name, number in active._asdict().items()
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True, alt="Active parameters by three conventions")
        if model.parameters.mtp:
            st.caption(f"Beside the total: {model.parameters.mtp:,} parameters for multi-token prediction.")
        panels.badge(source(model))


def _words(model: Subject) -> None:
    with panels.aside("In words"):
        lines = _lines(model)
        st.markdown("\n".join(f"- **{escape(head)}:** {escape(text)}" for head, text in lines))
        for link in _links(model):
            st.markdown(link)
        for note in model.notes[:6]:
            st.caption(escape(note))


def _lines(model: Subject) -> list[tuple[str, str]]:
    arch, record = model.architecture, model.record
    lines = [("Counted by", METHODS[model.parameters.method])]
    if record is not None:
        lines.append(
            (
                "Its makers say",
                f"{record.published.total} total, {record.published.active or 'the same'} active",
            )
        )
        lines.append(("Released", record.released))
        lines.append(("Checked", record.verified.method))
    weights, cache = model.formats
    by = f"; {record.stored_source}" if record is not None and record.stored_source else ""
    lines.append(("Stored in", f"{words(weights)}, the cache in {cache}{by}"))
    if arch is not None:
        lines.append(("Attention", anatomy.attention_words(arch)))
        if arch.experts is not None:
            lines.append(("Router", anatomy.router_words(arch.experts.router)))
            lines.append(
                (
                    "Sets of experts",
                    f"C({arch.experts.count}, {arch.experts.top_k}) = {model.sets:,} in a layer",
                )
            )
    elif record is not None:
        lines.append(("Attention", record.attention))
    return lines


def _links(model: Subject) -> list[str]:
    """Where the integers come from; only to places that are spelt out here."""
    record = model.record
    if record is None:
        return []
    found = []
    if record.hf_id:
        found.append(
            f":material/open_in_new: [Hugging Face: {escape(record.hf_id)}](https://huggingface.co/{record.hf_id})"
        )
    for text in (*record.sources, record.published.source, record.released_source):
        link = tables.link(text)
        short = escape(shorten(text, 90, placeholder=" ..."))
        found.append(f":material/open_in_new: [{short}]({link})" if link else escape(text))
    return list(dict.fromkeys(found))[:5]


# -- many models -----------------------------------------------------------------------------------

_COLUMNS: dict[str, Any] = {
    "name": st.column_config.TextColumn("model", pinned=True),
    "kind": "kind",
    "experts": st.column_config.NumberColumn("experts", format="%d"),
    "top_k": st.column_config.NumberColumn("top-k", format="%d"),
    "shared": st.column_config.NumberColumn("shared", format="%d"),
    "total": st.column_config.NumberColumn("total", format="localized", help="exact parameters"),
    **{
        name: st.column_config.NumberColumn(f"active: {words}", format="localized", help=DETAILS[name])
        for name, words in CONVENTIONS.items()
    },
    "attention": "attention",
    "released": "released",
    "method": "counted by",
    "published": "its makers say",
    "link": st.column_config.LinkColumn("Hugging Face", display_text="open"),
    "source": "source",
}


def table(model: Subject, rumours: bool) -> None:
    """Every model, sortable; selecting a row looks at it. Rumours stand in a table of their own."""
    rows, key = frames.table(), _key("catalogue", model)
    st.dataframe(
        rows,
        key=key,
        hide_index=True,
        height=560,
        placeholder="–",
        column_config=_COLUMNS,
        column_order=list(_COLUMNS),
        on_select=partial(_row_clicked, key),
        selection_mode="single-row",
        alt="Every published model: experts, top-k, parameters, attention, year and source",
    )
    st.caption("Click a heading to sort, a row to look at that model. Counts are exact integers.")
    panels.badge(Source("published", "data/architectures, one file a model, each with its source"))
    if rumours:
        every = frames.table(rumours=True)
        with panels.aside("Rumoured: never among the facts, never used in a verdict"):
            hearsay = every[every["standing"] == "rumoured"]
            shown = hearsay[["name", "total", "incl_embeddings", "experts", "top_k", "released", "source"]]
            st.dataframe(shown, hide_index=True, column_config=_COLUMNS, alt="Rumoured models")


def _row_clicked(key: str) -> None:
    rows = st.session_state[key]["selection"].get("rows", [])
    table = frames.table()
    if rows and 0 <= int(rows[0]) < len(table):
        name = str(table["name"].iloc[int(rows[0])])
        st.session_state["subject"] = st.session_state["catalogue_clicked"] = name


def compare(model: Subject) -> None:
    """Up to four models side by side."""
    options = [name for name in models.names() if name != model.name]
    others = st.multiselect(
        f"Compare {model.name} with",
        options,
        default=[name for name in _rivals(model) if name in options],
        key="compared",
        max_selections=MOST_COMPARED - 1,
        persist_state="session",
    )
    chosen = [model, *(models.subject(name) for name in others[: MOST_COMPARED - 1] if name in options)]
    panels.show(
        frames.parameters(*chosen) if len(chosen) > 1 else frames.parameters(model),
        "compare",
        source(model),
    )
    st.dataframe(tables.side_by_side(chosen), alt="The models side by side, one column each")


def _rivals(model: Subject) -> tuple[str, ...]:
    return ("Llama-3.1-70B", "Mixtral-8x7B") if model.routing else ("Mixtral-8x7B",)


def years() -> None:
    """How mixtures changed."""
    left, right = panels.pair()
    facts = Source("published", "data/architectures; the year of release, rumours left out")
    with left:
        panels.show(frames.over_years("experts"), "years_experts", facts, caveat="models counted")
    with right:
        panels.show(frames.over_years("top_k"), "years_top_k", facts, caveat="models counted")


def twins(model: Subject) -> None:
    """The dense models a mixture may be compared with, and what to say about each rule."""
    found = frames.dense_twins(model)
    if not found:
        why = "is dense already" if model.routing is None else "has layers the closed form cannot rebuild"
        st.info(f"{escape(model.name)} {why}: there is no dense twin to show.", icon=":material/balance:")
        return
    facts = Source(
        "modelled", f"{model.name} with one dense feed-forward width in every layer; all else kept"
    )
    panels.show(frames.twin_figure(model), "twins", facts, caveat="attention, cache and vocabulary kept")
    with panels.aside("Which rule says what"):
        for twin in found:
            width = f"feed-forward width {twin.architecture.ffn_width:,}, {twin.target:,} parameters wanted"
            st.markdown(f"**{escape(TWINS[twin.rule])}**: {escape(width)}")
            st.caption(escape("; ".join(twin.caveats)))
