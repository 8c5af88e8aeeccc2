"""The documents agree with the code: the reference is fresh, every path and link in them exists."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from docs import make, pictures
from moe_core import registry
from moe_core.cli import COMMANDS, called
from moe_core.decide.rules import scoring
from moe_core.decide.spec import DecideSpec
from moe_core.perf.distinct import uniform
from moe_core.perf.fit import usable
from moe_core.perf.step_time import Step, ops, token_flops
from moe_core.scenario import answer
from moe_core.settings import ROOT
from moe_core.specs import Architecture
from moe_core.units import GIGA, KILO

PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = {path.name: path for path in (*PAGES, ROOT / "README.md")}
EXAMPLES = set(  # files that a reader of extending.md makes
    re.findall(r"^`([^`\n]+)`, new:", TEXTS["extending.md"].read_text(encoding="utf-8"), re.M)
)
COMING: set[str] = set()
PAGE_NAMES = [path.stem for path in (ROOT / "pages").glob("*.py")]


def test_what_is_generated_is_fresh() -> None:
    assert make.stale() == []


def test_every_command_has_its_section() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.M) == [called(one) for one in COMMANDS]


@pytest.mark.parametrize("name", TEXTS)
def test_every_path_in_the_text_exists(name: str) -> None:
    text = TEXTS[name].read_text(encoding="utf-8")
    rooms = r"(?:app|moe_core|pages|data|docs|tests|benchmarks)"
    named = set(re.findall(rf"`({rooms}/[\w./-]+)`", text))
    gone = [path for path in named - EXAMPLES - COMING if not (ROOT / path).exists() and path != "data/state"]
    assert not gone, gone


def test_every_place_of_the_readmes_table_exists() -> None:
    """Files and folders, `<page>` for any page; a name without a slash is defined in the file before it."""
    readme = TEXTS["README.md"].read_text(encoding="utf-8")
    rows = readme[readme.index("| Question | Answer |") :].split("\n\n")[0].splitlines()[2:]
    assert len(rows) > 12
    places = [(row, place) for row in rows for place in re.findall(r"`([^`]+)`", row.split("|")[2])]
    paths: dict[str, list[Path]] = {}
    for row, place in places:
        if place in COMING or ("/" not in place and row not in paths):
            continue
        if "/" in place:
            paths[row] = [
                path for page in PAGE_NAMES if (path := ROOT / place.replace("<page>", page)).exists()
            ]
            least = len(PAGE_NAMES) if place.endswith(("/view.py", "<page>.py")) else 1
            assert len(paths[row]) >= least, place
        else:
            defined = rf"^(def |class )?{place}\b"
            assert re.search(defined, paths[row][0].read_text(encoding="utf-8"), re.M), place


@pytest.mark.parametrize("name", TEXTS)
def test_every_table_named_with_its_file_is_there(name: str) -> None:
    text = " ".join(TEXTS[name].read_text(encoding="utf-8").split())
    for names, path in re.findall(
        r"((?:`[A-Z_]{3,}`(?:, | or | and )?)+) (?:of|in) `([\w/]+\.(?:py))`", text
    ):
        source = (ROOT / path).read_text(encoding="utf-8")
        for one in re.findall(r"[A-Z_]{3,}", names):
            assert re.search(rf"^{one}\b", source, re.M), (one, path)


@pytest.mark.parametrize("name", TEXTS)
def test_every_command_named_exists(name: str) -> None:
    text = TEXTS[name].read_text(encoding="utf-8")
    known = {called(command) for command in COMMANDS} | {"COMMAND"}
    assert not {word for word in re.findall(r"python -m moe_core ([\w-]+)", text) if word not in known}
    modules = {
        word.rstrip(".") for word in re.findall(r"python -m ((?:docs|benchmarks|moe_core)\.[\w.]+)", text)
    }
    assert not [one for one in modules if not (ROOT / f"{one.replace('.', '/')}.py").exists()]


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_leads_somewhere(name: str) -> None:
    here = TEXTS[name]
    for target in re.findall(r"\]\(([^)\s]+)\)", here.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        other = (here.parent / file).resolve() if file else here
        assert other.exists(), target
        if anchor:
            assert anchor in anchors(other), target


def anchors(path: Path) -> set[str]:
    """Headings as GitHub names them."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_module_with_an_equation_is_in_the_account() -> None:
    """A number that has a file of its own in `perf` has its place in the document."""
    text = (ROOT / "docs" / "how-each-number-is-computed.md").read_text(encoding="utf-8")
    wanted = ("params", "memory", "fit", "cache", "distinct", "moe_layer", "expert_load", "gemm", "comm")
    more = ("attention_time", "step_time", "dense_equivalent", "twins", "economics", "device_model")
    assert not [name for name in (*wanted, *more) if f"moe_core/perf/{name}.py" not in text]


@pytest.mark.parametrize("name", ["overview", "routing", "economics", "decide", "compare"])
def test_the_tour_has_its_pictures(name: str) -> None:
    path = ROOT / "docs" / f"{name}.png"
    assert f"docs/{name}.png" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert path.stat().st_size <= pictures.MOST
    with Image.open(path) as image:
        assert image.size == (pictures.WIDE, pictures.HIGH)


# -- what is worked out in the documents is what the code says ---------------------------------------


def numbers(sentence: str, name: str = "how-each-number-is-computed.md") -> list[float]:
    """The numbers where `sentence`, a regular expression, stands in a document; line ends are spaces."""
    text = " ".join(TEXTS[name].read_text(encoding="utf-8").split())
    found = re.search(sentence, text)
    assert found, sentence
    return [float(number.replace(",", "")) for number in found.groups()]


def test_the_work_of_a_token() -> None:
    whole, none = numbers(r"DeepSeek-V3 takes ([\d.]+) GFLOP a token at a context of 4,096, ([\d.]+) at none")
    v3 = arch("DeepSeek-V3")
    assert (round(token_flops(v3, 4096) / GIGA, 1), round(token_flops(v3, 0) / GIGA, 1)) == (whole, none)
    said = numbers(
        r"every position with its logits, is ([\d.]+) GFLOP a token \(published: 250; DeepSeek-V2 ([\d.]+)"
    )
    step = Step(new=4096)
    for model, gflop in zip((v3, arch("DeepSeek-V2")), said, strict=True):
        forward = sum(op.flops * (step.new if op.name == "head" else 1) for op in ops(model, step))
        assert round(3 * forward / step.new / GIGA, 1) == gflop


def test_the_price_of_a_token_and_the_devices_for_traffic() -> None:
    price, batch, read, written, ms, alone, whole = numbers(
        r"at \$(\d) an hour Qwen3-30B-A3B writes on one H100 for (\d+) sequences "
        r"\(([\d,]+) tokens read, (\d+) written\) a token in ([\d.]+) ms: "
        r"a million of them cost \$([\d.]+) decoding alone, \$([\d.]+) prompts included"
    )
    values = {"mixture": "Qwen3-30B-A3B", "rule": "sqrt", "hardware": "H100", "price": price}
    work = {"batch": int(batch), "context": int(read + written), "output": int(written)}
    spec = DecideSpec.of({**values, "workload": work})
    one = answer.alone(spec, "Qwen3-30B-A3B")
    assert (one.devices, one.work.read) == (1, read)
    assert round(one.step.seconds * KILO, 1) == ms
    assert (round(answer.decoding(one) or 0, 3), round(one.cost or 0, 3)) == (alone, whole)
    second, step = price / 3600, one.step.seconds
    assert answer.decoding(one) == pytest.approx(second * step / batch * 1e6)
    prompt = one.prompt * one.devices
    assert one.cost == pytest.approx(second * (batch * prompt + written * step) / (batch * written) * 1e6)
    few, fewer, many, more = numbers(r"above (\d+) requests a second take (\d+) devices, (\d+) take (\d+)\.")
    targets = {"latency_ms": 50.0, "ttft_ms": 1000.0}
    for traffic, devices in ((few, fewer), (many, more)):
        asked = DecideSpec.of({**values, "workload": {**work, **targets, "traffic": traffic}})
        assert answer.alone(asked, "Qwen3-30B-A3B").devices == devices


def test_how_far_limits_and_instances_reach() -> None:
    text = " ".join(TEXTS["how-each-number-is-computed.md"].read_text(encoding="utf-8").split())
    assert "in between in its last thousandth" in text
    assert scoring().crowded == 0.001
    assert "0.95 x bytes that the driver reports" in text
    assert usable(1_000) == 950
    assert f"{scoring().better(2, 1):.2f}" == "0.76"


def test_experts_that_a_batch_of_mixtral_reads() -> None:
    (read,) = numbers(r"a batch of 8 reads about (\d)", "concepts.md")
    assert round(uniform(8, 2, 8)) == read


def test_counts_of_the_readme() -> None:
    assert numbers(r"\(([\d]+) published models, exact", "README.md") == [len(registry.records())]
    logs = [ROOT / "data" / "models" / f"scale-{kind}.log" for kind in ("dense", "moe")]
    rows = [[json.loads(line) for line in path.read_text().splitlines()] for path in logs]
    ends = [
        next(row for row in log if row.get("domain") == "all" and row["event"] == "heldout") for log in rows
    ]
    said = numbers(r"all eight kinds together \| ([\d.]+) \| ([\d.]+) \| ([\d.]+)", "README.md")
    assert said == [*(round(end["model"], 3) for end in ends), round(ends[0]["xz"], 3)]


def test_the_words_are_a_table_of_two_columns() -> None:
    """The app shows it as it stands here."""
    text = TEXTS["concepts.md"].read_text(encoding="utf-8")
    rows = text[text.index("| Word | In plain words |") :].strip().splitlines()
    assert rows[1] == "|---|---|"
    words = [re.fullmatch(r"\| ([^|]+) \| ([^|]+) \|", row) for row in rows]
    assert all(words[:1] + words[2:])
    names = [found[1].lower() for found in words[2:] if found]
    assert len(set(names)) == len(names) >= 25


def arch(name: str) -> Architecture:
    found = registry.get(name).architecture
    assert found is not None
    return found
