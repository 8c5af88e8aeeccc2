"""Where the product once contradicted itself or said what is not so: one test or more for each case.

Each is tried at other models, devices and work than those it was seen at.
"""

from __future__ import annotations

import re
from typing import get_args
from urllib.parse import urlencode

import pandas as pd
import pytest
from typer.testing import CliRunner

from app.economics import tabs
from moe_core import hardware, registry
from moe_core.cli import app
from moe_core.decide.case import Recorded
from moe_core.decide.factors import EVIDENCE
from moe_core.decide.flips import between, curve
from moe_core.decide.headline import answer as word
from moe_core.decide.headline import headline
from moe_core.decide.pair import pair
from moe_core.decide.verdict import Verdict
from moe_core.errors import ConfigError, MoEScopeError
from moe_core.perf.step_time import Step, ops, token_flops
from moe_core.report import compare, kinds, side, story, verdicts
from moe_core.scenario import answer, costs, link
from moe_core.scenario.decision import decision
from moe_core.scenario.resolved import resolve
from moe_core.scenario.spec import PRESET, Scenario, read, work
from moe_core.scenario.subject import architectures
from moe_core.specs import Kernel
from moe_core.units import quantity
from tests.report.test_deck import compared, opened, texts
from tests.scenarios import SCENARIOS

TIMED = tuple(name for name in architectures() if registry.get(name).architecture)
SOME = ("Qwen3-235B-A22B", "GLM-4.5", "OLMoE-1B-7B", "DBRX", "gpt-oss-120b", "Mixtral-8x22B")
EVERYWHERE = tuple(Scenario(name, place) for name in TIMED for place in ("H100", "B200"))


def busy(name: str, place: str, rate: float, devices: int | None, preset: str) -> Scenario:
    """A preset's work under traffic instead of a batch."""
    return Scenario(name, place, traffic=rate, devices=devices, preset=preset, **work(preset))


def verdict(scenario: Scenario) -> Verdict | str:
    """The verdict, or the sentence that says why there is none."""
    try:
        return answer.verdict(scenario)
    except MoEScopeError as error:
        return str(error)


# -- 1 to 5: one answer, counted whole ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "place", "rate", "devices", "preset"),
    [
        ("DeepSeek-V3", "H200", 200.0, 16, "retrieval"),
        ("Qwen3-235B-A22B", "H200", 400.0, 8, "retrieval"),
        ("GLM-4.5", "B200", 500.0, 8, "agentic"),
        ("gpt-oss-120b", "A100 80GB", 300.0, 4, "code"),
    ],
)
def test_a_fleet_that_cannot_carry_the_traffic_gets_no_winner(
    name: str, place: str, rate: float, devices: int, preset: str
) -> None:
    """1: "Mixture, by a margin of 0.38" at 200 requests/s on 16; 1,442 read the prompts alone."""
    found = verdict(busy(name, place, rate, devices, preset))
    assert isinstance(found, Verdict)
    assert (found.winner, found.state) == (None, "neither")
    assert headline(found).startswith(f"Neither carries {rate:g} requests/s on {devices} × {place}")
    for one in found.case.both:
        assert one.fleet is not None
        assert one.carried < rate
        assert f"{one.fleet:,} devices would do" in headline(found)
    enough = verdict(busy(name, place, rate, None, preset))
    assert isinstance(enough, Verdict)
    for one, short in zip(enough.case.both, found.case.both, strict=True):
        assert one.devices == short.fleet
        assert one.devices >= rate * one.prompt  # reading the prompts takes as many
        assert one.carried >= rate


def test_a_target_that_is_missed_comes_before_the_factors() -> None:
    """1: the mixture misses the first token by far and won all the same."""
    whole = verdict(Scenario("Qwen3-235B-A22B", "H200", devices=8, prompt=16384))
    assert isinstance(whole, Verdict)
    waits = sorted((one.at_best(one.first), one.candidate.name) for one in whole.case.both)
    between_both = (waits[0][0] + waits[1][0]) / 2 * 1e3
    found = verdict(Scenario("Qwen3-235B-A22B", "H200", devices=8, prompt=16384, ttft_ms=between_both))
    assert isinstance(found, Verdict)
    assert (found.state, found.name) == ("only", waits[0][1])
    assert headline(found).startswith(f"Only {waits[0][1]} keeps the target for the first token")


def test_the_first_screen_is_its_preset_and_choosing_it_again_moves_nothing() -> None:
    """2: "Interactive chat" stood over batch 8 and 64 written; the preset is 16 and 512."""
    again = Scenario(preset=PRESET, **work(PRESET))
    assert again == Scenario()
    assert link.scenario({"preset": PRESET}) == link.scenario({}) == Scenario()


@pytest.mark.parametrize("name", ["Qwen3-30B-A3B", "gpt-oss-20b", "Mixtral-8x7B"])
def test_a_curve_over_the_batch_is_the_answer_at_each_batch(name: str) -> None:
    """3: the curve kept the devices of one batch, the sidebar planned anew: four answers for one batch."""
    asked = Scenario(name)
    found = verdict(asked)
    assert isinstance(found, Verdict)
    for point in curve(found, "batch"):
        if point.value in (1, 8, 64, 512):
            there = verdict(asked._replace(batch=round(point.value)))
            if isinstance(there, str):
                assert point.winner is None
            else:
                assert (point.winner, point.margin) == (there.winner, pytest.approx(there.margin))


def test_one_more_device_loses_by_its_price() -> None:
    """3: a model that needs one device more lost by 1.00."""
    own = [found for one in EVERYWHERE if isinstance(found := verdict(one), Verdict)]
    uneven = [one for one in own if len(set(one.case.devices)) == 2 and not any(one.misses)]
    assert len(uneven) >= 5
    assert all(abs(one.margin) < 1 and one.state in ("close", "clear") for one in uneven)


@pytest.mark.parametrize("name", SOME)
def test_one_price_on_every_page_with_its_convention_in_the_label(name: str) -> None:
    """4: $53.8 on one page, $22.8 on another, and none said whether prompts were in it."""
    asked = Scenario(name, "H200")
    found = verdict(asked)
    assert isinstance(found, Verdict)
    one = found.case.both[0]
    study = costs.study(asked, "vllm", None)
    assert costs.served(study, study.mixture).cost == one.cost
    case = resolve(asked)
    assert compare.cell("cost.prompts", case).value == one.cost
    assert compare.cell("cost.decoding", case).value == answer.decoding(one)
    assert compare.cell("devices", case).value == one.devices
    for how, words in (("cost.prompts", "prompts included"), ("cost.decoding", "decoding alone")):
        assert words in kinds.KINDS[how].title
    assert "prompts included" in EVIDENCE["budget"](found.case)


@pytest.mark.parametrize("asked", [one for one in SCENARIOS if one.own is None] + list(EVERYWHERE), ids=str)
def test_a_comparison_says_the_verdict_of_the_overview(asked: Scenario) -> None:
    """5: dense by 0.10 on one page, mixture by 0.09 on another; another rival, other weights."""
    found = verdict(asked)
    said = f"none: {found}" if isinstance(found, str) else _answered(found)
    assert verdicts.verdict(resolve(asked), [])[0] == said
    if isinstance(found, Verdict):  # the rival beside it is the same pair
        dense = found.pair.of("dense").architecture
        beside = resolve(asked).model_copy(update={"architecture": dense, "load": None})
        assert verdicts.verdict(resolve(asked), [beside])[0] == said


def _answered(found: Verdict) -> str:
    return f"{word(found.winner, found.firm)}, against {found.pair.of('dense').name}"


# -- 6 to 10: whose verdict --------------------------------------------------------------------------


def test_the_quality_of_the_small_test_model_says_nothing_of_published_models() -> None:
    """6: a carved model of 8 M that nobody trained spoke against published ones, with the longest bar."""
    heard = Recorded(None, "a run", here=True)
    for name in ("GLM-4.5", "DBRX"):
        plain, told = answer.verdict(Scenario(name, "B200")), answer.verdict(Scenario(name, "B200"), heard)
        assert (plain.margin, plain.winner) == (told.margin, told.winner)
        said = " ".join(f"{factor.id} {factor.title} {factor.evidence}" for factor in told.factors)
        assert "bits" not in said
    assert not [how for how in kinds.KINDS if "quality" in how]


@pytest.mark.parametrize(("name", "experts"), [("DeepSeek-V3", 128), ("GLM-4.5", 64), ("OLMoE-1B-7B", 32)])
def test_an_edit_renames_the_mixture_and_keeps_its_rival(name: str, experts: int) -> None:
    """7: 8 -> 16 experts exchanged the rival in silence and left the name."""
    asked = Scenario(name, "H200")
    before, after = (pair(decision(one)) for one in (asked, asked._replace(experts=experts)))
    assert after.of("dense").architecture == before.of("dense").architecture
    assert after.of("mixture").name == f"{name}, {experts} experts"


@pytest.mark.parametrize("name", ["Mixtral-8x7B", "Qwen3-30B-A3B", "GLM-4.5-Air"])
def test_a_knob_moves_everything(name: str) -> None:
    """8: time, cost and flip followed the experts, memory did not, and nobody said why."""
    asked = Scenario(name, "H200")
    assert asked.bank == asked.published
    many = asked._replace(experts=2 * asked.bank[0])  # type: ignore[index]
    (few_case, few), (many_case, more) = (
        (resolve(one), answer.memory_of(resolve(one))) for one in (asked, many)
    )
    assert more.all > few.all
    assert many_case.model.parameters.total > few_case.model.parameters.total
    assert answer.served(many_case).step.seconds != answer.served(few_case).step.seconds
    assert many_case.label != few_case.label
    assert many.run_spec() != asked.run_spec()


@pytest.mark.parametrize(
    ("name", "place", "devices", "loser"),
    [
        ("Mixtral-8x7B", "A100 40GB", 3, "dense"),
        ("Mixtral-8x22B", "H200", 2, "mixture"),
        ("Qwen3-30B-A3B", "L40S", 1, "mixture"),
    ],
)
def test_what_does_not_fit_has_neither_time_nor_price(
    name: str, place: str, devices: int, loser: str
) -> None:
    """9: times and prices for a dense model that does not fit."""
    asked = Scenario(name, place, devices=devices)
    found = verdict(asked)
    assert isinstance(found, Verdict)
    mixture, dense = found.case.both
    out = dense if loser == "dense" else mixture
    assert not out.fits
    assert (found.state, abs(found.margin)) == ("only", 1.0)
    assert f"{out.candidate.name} needs" in headline(found)
    assert "cost" not in headline(found)
    arch = out.candidate.architecture
    same = resolve(asked).question
    changes = {"architecture": arch, "precision": same.formats(arch), "kv": same.cache(arch)}
    case = resolve(asked).model_copy(update=changes)
    for how in ("time.token", "time.first", "rate.device", "cost.prompts", "cost.decoding"):
        cell = compare.cell(how, case)
        assert cell.value is None
        assert " needs " in cell.text


def test_four_mixtures_are_each_judged_against_their_own_rival() -> None:
    """10: Mixtral was judged against the 405B that belongs to another."""
    asked = [Scenario(name, "H200") for name in ("GLM-4.5", "DeepSeek-V2-Lite", "OLMoE-1B-7B", "DBRX")]
    cells = compare.verdicts({one.architecture: resolve(one) for one in asked})
    assert [cell.text for cell in cells] == [_answered(answer.verdict(one)) for one in asked]


# -- 11 to 14: the whole question, within its error and its limits -------------------------------------


def test_a_link_says_the_whole_scenario() -> None:
    """11: traffic, targets, budget, link and team were not in the address."""
    whole = Scenario(
        *("GLM-4.5", "B200", 64, 4, 2, "code", "Llama-3.1-70B"),
        **{"batch": 4, "traffic": 3.5, "prompt": 3000, "answer": 700, "cached": 500, "devices": 8},
        **{"precision": "fp8", "latency_ms": 33.0, "ttft_ms": 1234.0, "budget": 2.5, "price": 4.0},
        **{"link_gbs": 300.0, "task": "reasoning", "training": "fine-tune", "skill": "expert", "seq": 128},
        load="even",
        weights=(("memory", 2.0), ("latency", 0.5)),
    )
    assert [name for name, value in whole._asdict().items() if value == getattr(Scenario(), name)] == [
        *("model", "text", "own")
    ]
    assert link.scenario(link.parameters(whole)) == whole
    assert decision(link.scenario(link.spoken(whole))) == decision(whole)
    (beside,) = side.read(urlencode(side.link([side.of(link.parameters(whole))])))
    assert beside.case == resolve(whole)
    assert verdicts.verdict(beside.case, [])[0] == _answered(answer.verdict(whole))


def test_a_winner_is_outside_the_error_of_the_times() -> None:
    """12: "dense by 0.00", between -0.27 and 0.06."""
    for one in EVERYWHERE:
        found = verdict(one)
        if isinstance(found, Verdict) and found.winner is not None:
            inside = found.low <= 0 < found.high
            assert inside == (found.state == "close")
            assert inside == headline(found).startswith("Too close to call")


@pytest.mark.parametrize("name", ["Mixtral-8x7B", "OLMoE-1B-7B", "DBRX", "Qwen3-30B-A3B"])
def test_the_longest_context_of_a_model_is_a_limit(name: str) -> None:
    """13: judged beyond what a model takes, "longest context 183,460" for one of 32,768."""
    arch = registry.get(name).architecture
    assert arch is not None
    most = arch.max_positions
    assert answer.memory_of(resolve(Scenario(name, "B200", batch=1))).context <= most
    beyond = verdict(Scenario(name, "B200", prompt=most + 1, answer=1))
    said = beyond if isinstance(beyond, str) else headline(beyond)
    assert f"takes at most {most:,} tokens" in said
    found = verdict(Scenario(name, "B200", batch=1))
    assert isinstance(found, Verdict)
    longest = max(one.longest for one in (found.pair.first, found.pair.second))
    assert all(flip.at <= longest + 1 for flip in between(found, "context", curve(found, "context")))


@pytest.mark.parametrize("rate", [0.05, 0.5, 5.0])
@pytest.mark.parametrize("name", ["DeepSeek-V3", "Qwen3-30B-A3B"])
def test_the_experts_that_are_read_belong_to_the_batch_that_is_said(name: str, rate: float) -> None:
    """14: "at batch 2 a step reads 101 of 256 experts", 16 at most."""
    found = verdict(Scenario(name, "H200", traffic=rate))
    assert isinstance(found, Verdict)
    said = re.search(
        r"([\d.,]+) sequences in flight a step reads ([\d.]+) of (\d+) experts",
        EVIDENCE["throughput"](found.case),
    )
    assert said, EVIDENCE["throughput"](found.case)
    flight, touched, bank = (float(number.replace(",", "")) for number in said.groups())
    routing = resolve(Scenario(name)).model.routing
    assert routing is not None
    assert touched <= min(max(flight, 1) * routing[0] * 1.05, bank)


# -- 15 to 20: numbers and their names -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["DeepSeek-V2-Lite", "Qwen3-30B-A3B", "gpt-oss-20b", "OLMoE-1B-7B"])
def test_a_token_is_the_same_work_on_every_page(name: str) -> None:
    """16: 93.7 and 142.9 GFLOP a token on two pages, latent attention absorbed or not."""
    asked = Scenario(name, "H200", batch=1, prompt=1984, answer=128, cached=0)
    arch = registry.get(name).architecture
    assert arch is not None
    study = costs.study(asked, "vllm", None)
    told = tabs._per_token(study, 1).set_index("model").loc[study.mixture.name]
    assert told["FLOPs a token"] == quantity(token_flops(arch, 2048), "FLOP")
    one = answer.served(resolve(asked))
    assert one.devices == 1
    walked = sum(op.flops for op in ops(arch, Step(batch=1, new=1, past=2048)))
    assert answer.step(one).flops == pytest.approx(walked)


@pytest.mark.parametrize("place", ["H100", "A100 80GB"])
def test_sequences_are_whole_and_active_says_which(place: str) -> None:
    """17: "35 and 96.9 sequences fit"; active 3.04 and 3.35 B under one word."""
    found = verdict(Scenario(hardware=place))
    assert isinstance(found, Verdict)
    said = EVIDENCE["context"](found.case)
    assert not re.search(r"\d\.\d", said), said
    assert "with embedding" in kinds.KINDS["params.active"].title


@pytest.mark.parametrize("name", SOME)
def test_the_largest_batch_is_the_sequences_that_fit(name: str) -> None:
    """17: 35 in one place, 96.9 in another, and the longest context at a third layout."""
    asked = Scenario(name, "B200", devices=8)
    found = answer.memory_of(resolve(asked))
    one = answer.served(resolve(asked))
    assert found.batch == one.sequences
    assert answer.memory_of(resolve(asked._replace(batch=found.batch))).fits
    assert not answer.at(one, found.batch + 9).fits
    if found.context < one.candidate.longest:
        longer = asked._replace(prompt=found.context + 64 - asked.answer, cached=0)
        assert not answer.served(resolve(longer)).fits


@pytest.mark.parametrize("place", [one.name for one in hardware.devices() if not one.usd_per_hour])
def test_no_price_is_no_price(place: str) -> None:
    """18: $1 invented, "no price", a division by zero."""
    asked = Scenario("gpt-oss-20b", place)
    found = verdict(asked)
    assert isinstance(found, Verdict)
    assert [one.cost for one in found.case.both] == [None, None]
    assert "$" not in headline(found)
    assert "cost" not in headline(found)
    assert compare.cell("cost.prompts", resolve(asked)).text == "no price"
    assert answer.decoding(found.case.both[0]) is None
    assert answer.verdict(asked._replace(price=3.0)).case.both[0].cost


def test_help_names_every_kernel() -> None:
    """19: the help of `--kernel` lacked one."""
    found = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"})
    said = " ".join(found.output.split())
    assert all(re.search(rf"\b{one}\b", said) for one in get_args(Kernel))


def test_no_decision_from_inside_the_error_of_the_first_token() -> None:
    """20: an error of 52 % in small print while three digits of it decided."""
    asked = Scenario("Mixtral-8x7B", "H200", prompt=8192)
    whole = answer.verdict(asked)
    first = whole.case.both[0].first
    assert first.lower < first.seconds
    inside = answer.verdict(asked._replace(ttft_ms=(first.lower + first.seconds) / 2 * 1e3))
    assert not [miss for miss in inside.misses[0] if miss.name == "first"]
    alone = asked._replace(devices=whole.case.devices[0])
    beyond = answer.verdict(alone._replace(ttft_ms=first.lower * 0.9e3))
    (miss,) = (miss for miss in beyond.misses[0] if miss.name == "first")
    assert re.search(r"\(80 %: .+ to .+\)", miss.words)
    cell = compare.cell("time.first", resolve(asked))
    assert (cell.low, cell.high) == (first.lower, first.upper)


# -- 21 to 25: facts, sessions, files, addresses, words --------------------------------------------------


def test_the_rival_that_comes_by_itself_was_read_at_its_source() -> None:
    """21: a published pair "(recalled, to be confirmed)" was the default."""
    for name in TIMED:
        source = pair(decision(Scenario(name))).source
        assert not re.search(r"recalled|to be confirmed|not re-read", source), name


@pytest.mark.parametrize("count", [2, 4])
def test_a_deck_of_a_comparison_answers_first_and_says_words(count: int) -> None:
    """23: notes percent-encoded, no answer on the first slide, the rival missing."""
    from tests.report.reviewed import saved

    queries = (
        "architecture=gpt-oss-20b&hardware=L40S&batch=4",
        "architecture=Qwen3-14B&hardware=L40S&batch=4",
        "architecture=GLM-4.5&hardware=B200&precision=fp8",
        "architecture=DBRX&hardware=H200&batch=128",
    )[:count]
    told = story.tell(saved(compared(queries, "Two or four?")))
    show = opened(told)
    first = " ".join(shape.text_frame.text for shape in show.slides[0].shapes if shape.has_text_frame)
    assert told.answer
    assert told.answer in first
    every = " ".join(texts(show))
    assert not re.search(r"%[0-9A-F]{2}", every)
    assert "\\" not in every


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"many": ["3.5"]}, "many (3.5)"),
        ({"rival": ["GPT-9"]}, "rival (GPT-9)"),
        ({"traffic": ["lots"]}, "traffic (lots)"),
        ({"colour": ["red"]}, "colour (red)"),
    ],
)
def test_what_an_address_asks_is_used_or_named(values: dict[str, list[str]], named: str) -> None:
    """24: `many=3`, `rival=GPT-9`, `subject=Nope`: another answer in silence."""
    names = {"rival": ("auto", "Qwen3-14B"), "subject": ("DBRX",), "architecture": TIMED}
    said = " ".join(read(values, names))
    assert named in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rival", "GPT-9"),
        ("weights", "beauty:2"),
        ("weights", "memory:lots"),
        ("many", "none"),
        ("task", "x"),
    ],
)
def test_a_command_refuses_what_it_cannot_use(name: str, value: str) -> None:
    """24: a rival that is not on file was another rival in silence."""
    for hear in (link.scenario, side.of):
        with pytest.raises(ConfigError, match=name):
            hear({name: value})


@pytest.mark.parametrize("text", ["garbage", "a=garbage", "a=architecture%3DGPT-9", "?colour=red"])
def test_a_comparison_of_garbage_is_refused(text: str) -> None:
    """24: `compare?a=garbage` showed another model in silence."""
    with pytest.raises(ConfigError):
        side.read(text)


def test_counts_and_nouns_agree() -> None:
    """25: "28.0" sets, "1 figures", "42.5857 tokens/s"."""
    for scenario in EVERYWHERE[::5]:
        case = resolve(scenario)
        for row in compare.table({"A": case}):
            text = row.cells[0].text
            assert not re.search(r"(?<![\d.,])1 (devices|tokens|sequences|experts)\b", text), text
            assert not re.search(r"\d\.\d{4,}", text), text
            assert "\\" not in text


def test_the_best_kernel_is_the_one_that_takes_least() -> None:
    """15: "our best kernel" took 2.07 ms, the grouped one 1.03, the loop 1.37."""
    from app.speed import charts, layers
    from moe_core.perf.device_model import Mixture

    facts = layers.Facts("x", "a model", Mixture(8, 4, 8, 2), 1, True)
    taken = {"auto": 2.07, "grouped": 1.03, "loop": 1.37}
    rows = [{"series": name, "width": 0, "tokens": 1, "median_s": ms / 1e3} for name, ms in taken.items()]
    dense = {facts.layer.active_width: 0.2, facts.layer.total_width: 0.8}
    rows += [{"series": "dense", "width": w, "tokens": 1, "median_s": ms / 1e3} for w, ms in dense.items()]
    frame = layers.of(pd.DataFrame(rows).assign(subject="x", p10_s=1e-4, p90_s=3e-3), facts)
    assert layers.seconds(frame, layers.BEST) == {1: pytest.approx(1.03e-3)}
    named = frame.dropna(subset="name")
    assert "1.3" in charts.over_tokens(named, pd.DataFrame(), "a model").title
