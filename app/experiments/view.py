"""Experiments: one of them as a panel, which Balancing and Conversion show too; all of them as a list."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app import asked, data, panels
from app.experiments import charts, frames, grid, live, series
from app.experiments.frames import Results
from app.panels import Source
from app.words import ago, escape
from moe_core.jobs.job import Job
from moe_core.labs.training.table import TABLE, question
from moe_core.report.text import many
from moe_core.specs import Experiment
from moe_core.store.queries import Run
from moe_core.units import figure as figure_of

TIMED = ("decode_over_batch", "all_to_all")  # whose result depends on what else the machine did
TABS = "top"
ALL, ONE, GRID = "All experiments", "One experiment", "Trained alike"
FRAME_S = 0.6  # between two steps of a replay


def source(run: Run) -> Source:
    """Where a run's numbers come from."""
    return panels.source_of(run) if run.spec["lab"] in TIMED else panels.recorded(run)


def sources(results: Results) -> tuple[Source, ...]:
    """One for each run that is shown."""
    return tuple(source(run) for run in results.runs)


# -- all of them -----------------------------------------------------------------------------------


def sentence() -> str:
    """How many experiments have a result, and what happens now."""
    live.take_in()
    every = [frames.results(lab) for lab in TABLE if lab != "balancing"]
    shipped = sum(one.reference is not None for one in every)
    here = sum(one.own is not None for one in every)
    training = next((job for job in data.jobs() if job.lane == "training" and job.status == "running"), None)
    now = f"{TABLE[live.of_job(training)].title} is training" if training else "nothing is training"
    made = f"{here} {'was' if here == 1 else 'were'} run here" if here else "none was run here"
    return f"{shipped} of {many(len(every), 'experiments')} have a reference run, {made}; {now}"


def overview() -> None:
    """Differences of loss over all experiments, or the state without any."""
    found = frames.all_findings("nats", "loss_difference")
    if found.empty:
        st.info(
            "No experiment has compared losses yet. Run one below: quick ones take about a minute.",
            icon=":material/science:",
        )
        return
    origins = {name: Source(name, _of_all(name)) for name in series.origins(found)}  # type: ignore[arg-type]
    caveat = "each experiment's own small models; where the interval holds zero, no difference was found"
    panels.show(charts.forest(found), "forest", *origins.values(), caveat=caveat)


def _of_all(origin: str) -> str:
    return (
        "runs made here" if origin == "measured here" else "the shipped reference runs; each one says where"
    )


def every() -> None:
    """A row an experiment: what is asked and expected, how it stands, quick, full, open."""
    jobs = live.jobs()
    for lab, row in TABLE.items():
        if lab == "balancing":
            continue
        results, job = frames.results(lab), jobs.get(lab)
        busy = bool(job and job.active)
        with st.container(border=True, gap="xsmall"):
            name = f"**{row.code}  {escape(row.title)}**  \n{escape(row.question)}"
            st.markdown(f"{name}  \n:small[:gray[Expected: {escape(row.expected)}]]")
            with st.container(horizontal=True, gap="small", vertical_alignment="center"):
                st.markdown(" ".join(_status(results, job)), width="stretch")
                with st.container(horizontal=True, gap="small", width="content", wrap=False):
                    live.button("Quick", question(lab), f"quick_{lab}", busy=busy)
                    live.button("Full", question(lab, "full"), f"full_{lab}", busy=busy)
                    _opener(lab)
    panels.link("balancing", "Your own strategies, side by side")


def _opener(lab: Experiment) -> None:
    icon = ":material/open_in_full:"
    st.button("Open", key=f"open_{lab}", on_click=open_one, args=(lab,), icon=icon)


def open_one(lab: Experiment) -> None:
    """Set the page to show one experiment."""
    st.session_state["experiment"] = _titled(lab)
    st.session_state[TABS] = ONE


def _titled(lab: Experiment) -> str:
    return f"{TABLE[lab].code} {TABLE[lab].title}".strip()


def _status(results: Results, job: Job | None) -> list[str]:
    """Badges: shipped, run here, under way, failed."""
    found = []
    if results.reference is not None:
        found.append(f":gray-badge[:material/public: reference, {_run_words(results.reference)}]")
    if results.own is not None:
        when = ago(results.own.created.replace(tzinfo=None).timestamp())
        found.append(f":violet-badge[:material/speed: run here, {_run_words(results.own)}, {when}]")
    if job and job.active:
        found.append(f":blue-badge[:material/model_training: {job.status}, {job.fraction:.0%}]")
    elif job and job.status in ("failed", "infeasible"):
        found.append(f":orange-badge[:material/error: {job.status} {ago(job.finished or job.submitted)}]")
    return found or [":gray-badge[not run yet]"]


def _run_words(run: Run) -> str:
    count = frames.seeds(run)
    return f"{frames.setting(run)}, {many(count, 'seeds')}" if count else frames.setting(run)


def pick() -> Experiment:
    """The experiment that is opened."""
    names = {_titled(lab): lab for lab in TABLE if lab != "balancing"}
    chosen = asked.pick("Experiment", list(names), "experiment", width=420)
    return names[chosen]


# -- one of them -----------------------------------------------------------------------------------


def panel(lab: Experiment, *, key: str = "") -> None:
    """What is asked, what is expected, what was found; run it, see it live, replay it."""
    row, job, results = TABLE[lab], live.jobs().get(lab), frames.results(lab)
    st.markdown(f"**{escape(row.question)}** :gray[Expected: {escape(row.expected)}]")
    buttons(lab, job)
    live.follow(job, f"{key}{lab}")
    if not results.runs:
        nothing(lab, job)
        return
    rows = frames.rows(results.runs)
    metric, axis, part = pickers(lab, rows)
    figure = frames.figure("curves", results.runs, metric=metric, axis=axis, part=part)
    panels.show(figure, f"{key}{lab}_curves", *sources(results), caveat=caveat(results))
    compared(results, rows, part, f"{key}{lab}")
    beside_it(results, rows, f"{key}{lab}")
    replayed(results, metric, part, f"{key}{lab}")


def buttons(lab: Experiment, job: Job | None, named: bool = False) -> None:
    """Quick and full. `named`: the experiment is, where the page has others too."""
    what = f"{TABLE[lab].title}: run it here" if named else "Run it here"
    busy = bool(job and job.active)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        for label, setting in ((f"{what}, quick", "quick"), (f"{what}, in full", "full")):
            live.button(label, question(lab, setting), f"run_{setting}_{lab}", busy=busy)  # type: ignore[arg-type]


def nothing(lab: Experiment, job: Job | None) -> None:
    """The state without a result: what is there instead, and what to do."""
    if job and job.active:
        st.caption("Its first result: what was recorded stays when the page is closed.")
        return
    st.info(
        f"{TABLE[lab].title} has no reference run in this version and was not run here. "
        "A quick run takes about a minute; its curves appear as they are measured.",
        icon=":material/science:",
    )


def caveat(results: Results) -> str:
    best = results.best
    assert best is not None, "there is a run"
    words = f"test models trained for this; {_run_words(best)}"
    both = len(results.runs) > 1
    return f"{words}; line: trained here, points alone: shipped" if both else words


def pickers(lab: Experiment, rows: pd.DataFrame, first: str = "") -> tuple[str, str, str]:
    """The measure, its axis and the part of the experiment, each in the URL. `first`: the part in front."""
    trained, (main, along) = series.without_floor(rows), series.MAIN.get(lab, ("", ""))
    names = sorted(series.metrics(trained), key=lambda name: name != main)
    titles = {series.metric(name).title: name for name in names}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        metric = titles[asked.pick("Measure", list(titles), f"measure_{lab}", width=360)]
        axes = sorted(series.axes(trained, metric), key=lambda name: name != along or metric != main)
        over = {series.axis_title(axis): axis for axis in axes}
        axis = axes[0]
        if len(over) > 1:
            axis = over[asked.pick("Over", list(over), f"axis_{lab}", width=230)]
        parts = sorted(series.parts(series.chosen(trained, metric, axis)), key=lambda name: name != first)
        part = asked.segments("Part", parts, f"part_{lab}") if len(parts) > 1 else parts[0]
    return metric, axis, part


def compared(results: Results, rows: pd.DataFrame, part: str, key: str) -> None:
    """Paired differences of the held-out loss beside what was found."""
    mine = series.beside_each_other(series.chosen(rows, "heldout", "step", part))
    arms = list(dict.fromkeys(mine["arm"]))
    base = next((arm for arm in arms if arm == series.BASES.get(results.lab)), arms[0] if arms else "")
    several = len(mine) and not series.differences(mine, base).empty
    if not several:
        findings(results)
        return
    left, right = panels.pair()
    with left:
        figure = frames.figure("differences", results.runs, metric="heldout", part=part, base=base)
        panels.show(
            figure,
            f"{key}_differences",
            *sources(results),
            caveat="paired by seed: same bytes, same first weights",
        )
    with right:
        findings(results)


def beside_it(results: Results, rows: pd.DataFrame, key: str) -> None:
    """Further measures that belong to an experiment, where they were taken."""
    sentence, metrics = series.BESIDE.get(results.lab, ("", ()))
    found = [name for name in metrics if len(series.chosen(rows, name, "step"))]
    if not found:
        return
    st.markdown(f"**{escape(sentence)}**")
    for place, metric in zip(panels.pair(), found, strict=False):
        with place:
            figure = frames.figure("curves", results.runs, metric=metric, axis="step", part="")
            panels.show(figure, f"{key}_{metric}", *sources(results), caveat=caveat(results))


def findings(results: Results) -> None:
    """What the experiment found, by a rule of its file; shipped beside made here."""
    table: dict[str, dict[str, str]] = {}
    for run in results.runs:
        column = "shipped" if run.reference else "here"
        for name, told in frames.findings(run).items():
            said = _said(name, frames.arm_words(run.spec))
            table.setdefault(name, {"finding": said})[column] = value_words(told)
    rows = pd.DataFrame(list(table.values()))
    with panels.aside("What was found"):
        st.dataframe(
            rows,
            hide_index=True,
            height=min(36 * len(rows) + 40, 330),
            placeholder="–",
            alt="Findings of this experiment",
        )
        with st.container(horizontal=True, gap="small"):
            for one in sources(results):
                panels.badge(one)
            st.caption("Mean, 95 % interval over paired seeds.", width="stretch")


def _said(name: str, arms: Sequence[str] = ()) -> str:
    """`loss difference: k1` of `loss_difference.k1`; arms that are numbered by their strategies."""
    first, *others = name.replace("_", " ").split(".", 1)
    named = [arms[int(one) - 1] if one.isdecimal() and 0 < int(one) <= len(arms) else one for one in others]
    return ": ".join([first, *named])


def value_words(told: dict[str, Any]) -> str:
    """`-0.0156 nats (-0.0378 to 0.00674)`."""
    value, low, high = (told.get(name) for name in ("value", "low", "high"))
    unit = f" {told['unit']}" if told.get("unit") else ""
    if value is None:
        return "–"
    span = "" if low is None or high is None else f" ({figure_of(low)} to {figure_of(high)})"
    return f"{figure_of(value)}{unit}{span}"


def beside(a: Run, b: Run) -> None:
    """Findings of two runs, whatever their experiments, side by side."""
    table: dict[str, dict[str, str]] = {}
    for column, run in (("first", a), ("second", b)):
        for name, told in frames.findings(run).items():
            table.setdefault(name, {"finding": _said(name)})[column] = value_words(told)
    with panels.aside("What each found"):
        st.dataframe(
            pd.DataFrame(list(table.values())), hide_index=True, placeholder="–", alt="Findings of two runs"
        )


# -- replay ----------------------------------------------------------------------------------------


def replayed(results: Results, metric: str, part: str, key: str) -> None:
    """The load of the experts over the steps of the training, with its curve."""
    with_loads = [run for run in results.runs if len(data.frame("loads", run))]
    if with_loads:
        replay(max(with_loads, key=frames.seeds), metric, part, key)


def replay(run: Run, metric: str, part: str, key: str) -> None:
    """Curve and heatmap of a finished run at any step; played, as if it were trained now."""
    playing = bool(st.session_state.get(f"play_{key}"))
    body = partial(_replay, run, metric, part, key, playing)
    st.fragment(body, run_every=FRAME_S if playing else None)()


def _replay(run: Run, metric: str, part: str, key: str, was: bool) -> None:
    if bool(st.session_state.get(f"play_{key}")) != was:
        st.rerun()  # the pace of this fragment belongs to the page
    loads = frames.loads(run)
    steps = sorted(int(step) for step in loads["step"].unique())
    if was:
        _advance(steps, key)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        label, icon = ("Pause", ":material/pause:") if was else ("Play", ":material/play_arrow:")
        st.button(label, key=f"button_{key}", icon=icon, on_click=_play, args=(steps, key, not was))
        step = st.select_slider("Step of the training", steps, value=steps[-1], key=f"step_{key}")
    step = step if step in steps else steps[-1]
    left, right = panels.pair()
    with left:
        rows = series.without_floor(frames.rows([run]))
        if "step" not in series.axes(rows, metric):  # what has no curve along the steps gives way to what has
            metric = next(name for name in series.metrics(rows) if "step" in series.axes(rows, name))
        figure = frames.figure("so_far", [run], metric=metric, part=part, step=step)
        panels.show(figure, f"{key}_so_far", source(run), caveat="up to the step chosen")
    with right:
        seed = int(loads["seed"].iloc[0])
        figure = frames.figure("heatmap", [run], step=step, seed=seed, part=part)
        panels.show(figure, f"{key}_load", source(run), caveat=f"seed {seed}; pairs since the step before")


def _play(steps: list[int], key: str, playing: bool) -> None:
    st.session_state[f"play_{key}"] = playing
    if playing and st.session_state.get(f"step_{key}") == steps[-1]:
        st.session_state[f"step_{key}"] = steps[0]  # from the start


def _advance(steps: list[int], key: str) -> None:
    now = st.session_state.get(f"step_{key}", steps[0])
    at = min(steps.index(now) + 1 if now in steps else 0, len(steps) - 1)
    st.session_state[f"step_{key}"] = steps[at]
    if at == len(steps) - 1:
        st.session_state[f"play_{key}"] = False


# -- the grid --------------------------------------------------------------------------------------


def trained_alike() -> None:
    """The mixtures that ship against their dense twins: the answer, the chart, every one of them."""
    table = grid.rows()
    if table.empty:
        st.info("No model of the grid is in this version.", icon=":material/science:")
        return
    st.markdown(f"**{escape(grid.sentence(table))}.**")
    shown = {"what a token computes": "work", "what is stored": "bytes"}
    unit = shown[asked.segments("Over", list(shown), "over")]
    made = Source(
        "measured elsewhere", "logs of their training, data/models/grid; held-out text, int8 weights"
    )
    panels.show(grid.chart(table, unit), "grid", made, caveat="test models, 256 bytes a sequence, one seed")  # type: ignore[arg-type]
    mixtures = table[table["role"] == "mixture"]
    st.dataframe(
        grid.compared(mixtures),
        hide_index=True,
        placeholder="–",
        alt="Mixtures of the grid and their dense models",
        column_config={
            "name": "mixture",
            "work": st.column_config.NumberColumn("neurons used", help="Of a layer, by one token."),
            "bytes": st.column_config.NumberColumn("neurons stored", help="Of a layer."),
            "bits": st.column_config.NumberColumn("bits per byte", format="%.3f"),
            "active": st.column_config.NumberColumn("against equal active size", format="%+.3f"),
            "total": st.column_config.NumberColumn("against equal total size", format="%+.3f"),
            "equivalent": st.column_config.NumberColumn("as good as dense neurons", format="%.0f"),
        },
    )
    st.caption(
        "Against a dense model of equal size: below zero the mixture is better. One seed each: differences "
        "of a few hundredths could turn with another."
    )
