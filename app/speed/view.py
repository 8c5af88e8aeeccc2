"""Speed: what the page says and shows of layer sweeps and calibrations of this device."""

from __future__ import annotations

import streamlit as st

from app import data, live, panels
from app.asked import segments
from app.figure import percent
from app.figure import times as ratio
from app.live import Answer
from app.panels import Number, Source
from app.speed import frames, layers
from app.speed.charts import tokens_words
from app.speed.frames import frame
from app.speed.layers import ACTIVE, BEST, LOOP, Split
from app.words import escape, recorded_on, seconds
from moe_core.errors import MoEScopeError
from moe_core.perf.calibrate import question
from moe_core.perf.roofline import ridge_tokens
from moe_core.scenario.spec import Scenario
from moe_core.specs import RunSpec
from moe_core.store.queries import Run
from moe_core.units import quantity, significant

MANY = 1024  # tokens: a batch beside which one token stands
REAL_S = 240.0  # seconds that layers of real size may take


def spec(scenario: Scenario) -> RunSpec:
    """The sweep of the scenario's mixture. Batch and length play no part, so they keep their defaults."""
    asked = scenario._replace(text=None).run_spec()
    plain = RunSpec()
    return asked.model_copy(update={"lab": "layer_sweep", "batch": plain.batch, "seq": plain.seq})


def real_spec(scenario: Scenario) -> RunSpec:
    """Layers of real size, in the scenario's dtype."""
    return RunSpec(lab="real_layers", dtype=spec(scenario).dtype, time_limit_s=REAL_S)


# -- the answer ------------------------------------------------------------------------------------


def sentence(run: Run) -> str:
    """Mixture against dense at one token and at many, and whether code or architecture explains it."""
    where = "On this machine" if run.reference is None else f"On {run.provenance['device']}"
    return compared(where, *_ends(run))


def compared(where: str, few: Split, many: Split) -> str:
    """`few` and `many` tokens in one sentence; a second one says what most of the time beyond dense is."""
    one = "one token" if few.tokens == 1 else tokens_words(few.tokens)
    words = (
        f"{where} a mixture layer takes {ratio(few.total)} a dense layer of the same active size for {one}"
    )
    if many.tokens != few.tokens:
        words += f", {ratio(many.total)} for {many.tokens:,}"
    why = _why([end for end in dict.fromkeys((few, many)) if end.overhead is not None])
    return f"{words}. {why}" if why else words


def _why(slower: list[Split]) -> str:
    """What explains most of the time beyond the dense layer, where there is such time."""
    code = [end for end in slower if end.overhead is not None and end.overhead > 0.5]
    rest = [end for end in slower if end not in code]
    if not slower:
        return ""
    if not rest:
        return "Most of that is this code's overhead, not the architecture"
    if not code:
        return "Most of that is the architecture, whose experts must be read, not this code's overhead"
    return (
        f"Most of that is this code's overhead for {tokens_words(code[0].tokens)}, "
        f"and the architecture for {tokens_words(rest[0].tokens)}"
    )


def numbers(run: Run) -> tuple[Number, ...]:
    """The ratio at both ends, the share of code, the naive loop."""
    here, rows = panels.source_of(run), frame(run)
    few, many = _ends(run)
    best, active, loop = (layers.seconds(rows, name) for name in (BEST, ACTIVE, LOOP))
    found = [
        Number(
            f"Layer, {tokens_words(end.tokens)}, test model",
            f"{ratio(end.total)} dense",
            f"{seconds(best[end.tokens])} against {seconds(active[end.tokens])}",
            here,
        )
        for end in dict.fromkeys((few, many))
    ]
    found.append(_overhead(many, here))
    if many.tokens in loop:
        slow = loop[many.tokens] / best[many.tokens]
        note = f"naive: {seconds(loop[many.tokens])} against {seconds(best[many.tokens])}; not economics"
        found.append(
            Number(f"Loop, {tokens_words(many.tokens)}, test model", f"{ratio(slow)} ours", note, here)
        )
    return tuple(found)


def _overhead(end: Split, here: Source) -> Number:
    """How much of the time beyond the dense layer is our code."""
    label = f"Overhead, {tokens_words(end.tokens)}, test model"
    if end.overhead is None:
        return Number(label, "none", "the mixture layer takes no longer than the dense one", here)
    note = (
        f"our code's part of the {ratio(end.beyond)} beyond dense; the experts alone take {ratio(end.work)}"
    )
    return Number(label, percent(end.overhead), note, here)


def _ends(run: Run) -> tuple[Split, Split]:
    found = layers.splits(frame(run))
    return found[0], next((one for one in found if one.tokens == MANY), found[-1])


# -- tabs ------------------------------------------------------------------------------------------


def main(run: Run) -> None:
    """Layer time over tokens; under the device's limits once it is calibrated."""
    by = _calibrated(run)
    options = {"by": by.run_id} if by else {}
    caveat = f"test model, one layer on held-out text, {run.provenance['dtype']}{_meanwhile(run)}"
    if by:
        caveat += (
            f"; dashed: the least time that the device allows, calibrated ({by.created:%Y-%m-%d}), modelled"
        )
    panels.show(
        data.figure(frames.over_tokens, run, **options), "speed_layer", panels.source_of(run), caveat=caveat
    )


def code(run: Run, here: Source) -> None:
    """Architecture or code, and the dense width that takes as long."""
    left, right = panels.pair()
    with left:
        caveat = "own work: the weights that were hit, read once, as one dense product of as many rows"
        caveat += _meanwhile(run)
        panels.show(data.figure(frames.split, run), "speed_split", here, caveat=caveat)
    with right:
        caveat = f"test model; widths past the measured ones are drawn on in proportion{_meanwhile(run)}"
        panels.show(data.figure(frames.equivalent, run), "speed_equivalent", here, caveat=caveat)


def beside(run: Run, here: Source) -> None:
    """Measured beside predicted, and the button that makes it this device's own."""
    own = on_demand(
        question(),
        "Calibrate this device",
        "Measures products, memory and overheads for a minute at most, two where the machine is busy.",
    )
    by = _calibrated(run)
    if by is None:
        st.info(
            "Nothing is predicted yet: the device of this sweep has no calibration.",
            icon=":material/straighten:",
        )
        return
    if own is None or _meanwhile(by):
        st.caption(f"Predicted from the calibration {recorded_on(by)}{_meanwhile(by)}.")
    modelled = Source("modelled", _error_words(run, by))
    caveat = f"test model; points measured, dashed predicted from primitive operations{_meanwhile(run)}"
    panels.show(data.figure(frames.beside, run, by=by.run_id), "speed_predicted", modelled, caveat=caveat)


def roof(run: Run, here: Source) -> None:
    """Layers under the calibrated roof."""
    by = _calibrated(run)
    if by is None:
        st.info("The roof needs a calibration: start one under Predicted.", icon=":material/straighten:")
        return
    facts = layers.facts(run)[0]
    limits = layers.limits(facts, layers.calibration(by), run.provenance["dtype"])
    panels.show(
        data.figure(frames.roofline, run, by=by.run_id),
        "speed_roofline",
        here,
        caveat=f"test model; hollow: modelled{_meanwhile(run)}",
    )
    size = 2 if run.provenance["dtype"] == "bf16" else 4
    layer = facts.layer
    st.caption(
        f"Roof: {quantity(limits.flops, 'FLOP/s')} and {quantity(limits.bytes, 'B/s')}, the best of all "
        f"probes ({recorded_on(by)}). A dense layer is bound by multiplying from about "
        f"{significant(ridge_tokens(limits, size))} tokens on, this mixture from "
        f"{significant(ridge_tokens(limits, size, layer.experts, layer.top_k))}."
    )


def real(scenario: Scenario) -> None:
    """Layers of published sizes with random weights: asked by a button, for they take minutes."""
    found = on_demand(
        real_spec(scenario),
        "Time layers of real size here",
        "Mixtral, Qwen3-30B-A3B and DeepSeek-V3, one layer each with random weights; up to four minutes.",
    )
    run = found or _stand_in(real_spec(scenario))
    if run is None:
        return
    here, sizes = panels.source_of(run), layers.facts(run)
    for reason in run.summary["missing"].values():
        st.warning(escape(reason), icon=":material/block:")
    names = [facts.label for facts in sizes]
    number = names.index(segments("Layer", names, "real"))
    by = _calibrated(run)
    options = {"by": by.run_id} if by else {}
    caveat = f"full size, one layer, random weights and near-even routing: for timing only{_meanwhile(run)}"
    panels.show(
        data.figure(frames.over_tokens, run, subject=number, **options), "speed_real", here, caveat=caveat
    )
    left, right = panels.pair()
    with left:
        panels.show(
            data.figure(frames.equivalent, run, subject=number), "real_equivalent", here, caveat=caveat
        )
    with right:
        if by:
            modelled = Source("modelled", _error_words(run, by))
            figure = data.figure(frames.beside, run, by=by.run_id, subject=number)
            panels.show(figure, "real_predicted", modelled, caveat="full size, one layer")
    for name, reason in run.summary["skipped"].items():
        st.caption(escape(f"{name}: {reason}"))


def components(scenario: Scenario) -> None:
    """Where the time of a whole pass goes, from the bench run."""
    asked = scenario.run_spec()
    found = data.answer(asked) or data.same_question(asked) or data.nearest(asked)
    if found is None:
        st.info("The bench has not run yet: open Overview, and it starts.", icon=":material/balance:")
        return
    run = data.run(found)
    if run.spec != asked.model_dump(mode="json"):
        st.caption(f"The nearest bench run, {recorded_on(run)}; Overview runs this scenario's own.")
    left, right = panels.pair()
    for place, phase in ((left, "prefill"), (right, "decode")):
        with place:
            figure = data.figure(frames.components, run, phase=phase)
            caveat = f"test model, median{_meanwhile(run)}"
            panels.show(figure, f"speed_{phase}", panels.source_of(run), caveat=caveat)


def _meanwhile(run: Run) -> str:
    """What else the machine did while a run was timed, for a caption; nothing where that did not matter."""
    beside = panels.source_of(run).busy
    return f"; measured while {beside}: times are too long and uneven" if beside else ""


def _calibrated(run: Run) -> Run | None:
    """The calibration of the device a run was made on, if it knows the run's dtype."""
    by = data.calibration_of(run.provenance["device_key"])
    return by if by and run.provenance["dtype"] in by.summary["calibration"]["rates"] else None


def _error_words(run: Run, by: Run) -> str:
    return (
        f"predicted by moe_core.perf.device_model from a calibration of {by.provenance['device']} "
        f"({by.created:%Y-%m-%d}) for the sweep of {run.created:%Y-%m-%d}; its error is in the title"
    )


def _stand_in(asked: RunSpec) -> Run | None:
    found = data.same_question(asked) or data.nearest(asked)
    return data.run(found) if found else None


# -- asked by a button -----------------------------------------------------------------------------


def on_demand(asked: RunSpec, label: str, words: str) -> Run | None:
    """This device's answer to a question nobody asks by looking; a button, its progress, what went wrong."""
    try:
        job = data.job_of(asked)
        if job and job.status == "done" and job.run_id and not data.exists(job.run_id):
            data.take_in(job.run_id)
        found = data.answer(asked)
    except MoEScopeError as error:
        st.error(escape(str(error)), icon=":material/error:")
        return None
    if job and job.active:
        live.strip(Answer(asked, None, False, False, job, None))
    elif job and job.status not in ("done", "active") and found is None:
        live.strip(Answer(asked, None, False, False, job, job.error or f"the run was {job.status}"))
    else:
        with st.container(horizontal=True, vertical_alignment="center"):
            again = f"{label} again" if found else label
            st.button(
                again, key=f"ask_{asked.lab}", on_click=_ask, args=(asked, found), icon=":material/speed:"
            )
            st.caption(f"Done here, {recorded_on(data.run(found))}." if found else words)
    return data.run(found) if found else None


def _ask(asked: RunSpec, known: str | None) -> None:
    """Submit; what is known is measured anew."""
    if known:
        data.delete(known)
    data.submit(asked)
