"""Whatever is typed or handed over: an answer or one sentence, soon.

The options are read off the command line itself, so that a new one is tried without being told of here.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlencode

import pytest
import typer

from moe_core.cli import app, main
from moe_core.errors import InfeasibleError
from moe_core.jobs.worker import Worker
from moe_core.runs.context import RunContext
from moe_core.settings import ROOT, Settings
from moe_core.specs import EXPERIMENTS, Lab, RunSpec
from tests import synthetic
from tests.hostile import make
from tests.jobs.fake import labs
from tests.report.examples import manifest
from tests.traces import choices

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Duplicate name")]

CODES = {0, 1, 2, 3, 4, 130}
TRIES = int(os.environ.get("FUZZ_TRIES", "40"))  # of each kind that is drawn by chance
SECONDS = 20  # of one command in this process: any machine, any load
LAYER = "--tokens 64 --hidden 4096 --inter 14336 --experts 8 --topk 2"
# A question that has an answer; each option is changed in turn.
USUAL: dict[str, str] = {
    "run": "--batch 1 --seq 16",
    "params": "--model Mixtral-8x7B",
    "memory": "--model Mixtral-8x7B --hardware H100",
    "predict": "--model Mixtral-8x7B --hardware H100",
    "layer": LAYER,
    "lab": "run collapse",
    "import-trace": "routing.csv --experts 8",
    "compare": "--scenario architecture=Mixtral-8x7B&hardware=H100&batch=8",
    "export": "memory --model Mixtral-8x7B --out made.json",
    "reproduce": "made.json",
}
# Not in turn with any other: what is chosen in their place.
INSTEAD = {"--config": "--model", "--checkpoint": "--model", "--from": "--model", "--review": "--model"}
WHOLE = (
    *("-1", "0", "1", "-0", "+1", "1_000", "1e3", " 7", "0x10", "", "x", "³", "٣"),
    *(str(2**31 - 1), str(2**31), str(2**32), str(2**53 + 1), str(2**63 - 1), str(-(2**63))),
    *(str(2**63), str(2**64), str(10**20), "1" + "0" * 400, "1" + "0" * 4999, "1000000", "1048576"),
)
REAL = (*WHOLE, "nan", "-nan", "inf", "-inf", "1e308", "-1e308", "5e-324", "-0.0", "1e-300", "0.1")
WORDS = (
    *(
        "",
        " ",
        "-",
        "--",
        ".",
        "..",
        "/",
        "\n",
        "a\nb",
        "x" * 300,
        "x" * 70_000,
        "\udcff",
        "\0",
        "é",
        "%s{0}",
    ),
    *("auto", "none", "null", "H100", "h100_sxm", "DBRX", "gpt-oss-120b", "fp8", "int4", "chat", "sglang"),
    *("architecture=DBRX", "?a=b", "http://[?a=b", "a=architecture%3DDBRX", "architecture=&hardware=", "=&="),
    *(
        "architecture=DBRX&batch=" + "9" * 5_000,
        "architecture=DBRX&traffic=1e-320",
        "architecture=DBRX&own=x",
    ),
    *("memory", "page", "review", "made.png", "made.svg", "prefill", "trained", "gpu", "cuda", "real_layers"),
)
Option = Any  # typer's own copy of click has no name for it
PROGRAM: Any = typer.main.get_command(app)  # made once: that is most of what a command takes
COMMANDS: dict[str, list[Option]] = {name: list(one.params) for name, one in PROGRAM.commands.items()}


@pytest.fixture(autouse=True)
def nothing_is_started(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty installation; labs are fakes, the server and the worker end at once."""
    every = {name: no if name == "calibrate" else made for name in (*get_args(Lab), *EXPERIMENTS)}
    for place in ("ask", "service"):
        for load in ("load_labs", "load_experiments"):
            monkeypatch.setattr(f"moe_core.cli.{place}.{load}", lambda: labs()._replace(table=every))
    monkeypatch.setattr(typer.main, "get_command", lambda _: PROGRAM)
    monkeypatch.setattr(Worker, "serve", lambda self: 0)
    monkeypatch.setattr(os, "execv", lambda *_: os.chdir(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made.json").write_text(manifest().to_json())
    choices().to_csv(tmp_path / "routing.csv", index=False)


def made(spec: RunSpec, context: RunContext) -> Path:
    """A lab whose run is there at once."""
    context.step("measure", 0.5)
    return synthetic.write_bundle(Settings.load().runs_dir, spec, layers=1)


def no(*_: object) -> Path:
    """A lab that cannot be run here."""
    raise InfeasibleError("needs a quiet machine")


def kind(option: Option) -> str:
    return str(getattr(option.type_descriptor.annotation, "__name__", "str"))


def usual(name: str, *without: str) -> list[str]:
    """The words of the command's usual question, some options and their values left out."""
    words = USUAL.get(name, "").split()
    for option in without:
        while option in words:
            at = words.index(option)
            del words[at : at + 2]
    return [name, *words]


def asked(name: str, option: Option, value: str) -> list[str]:
    """The usual question with another value of one option or argument."""
    first = option.opts[0]
    if option.param_type_name == "argument":
        words = usual(name)
        return [name, *words[2:], "--", value]
    return [*usual(name, *option.opts, INSTEAD.get(first, first)), first, value]


def blame(capsys: pytest.CaptureFixture[str], words: Sequence[str]) -> str | None:
    """What is wrong with how the command ended; None where nothing is."""
    began = time.monotonic()
    try:
        code = main(words)
    except (Exception, SystemExit) as error:
        capsys.readouterr()
        return f"{type(error).__name__}: {str(error)[:200]}"
    took, said = time.monotonic() - began, capsys.readouterr()
    if took > SECONDS:
        return f"took {took:.0f} s"
    return wrong(code, said.out, said.err, "--json" in words)


def wrong(code: int, out: str, err: str, as_json: bool) -> str | None:
    """The rules of an answer: a known code, one sentence, JSON that any reader reads."""
    if code not in CODES or "Traceback" in err:
        return f"code {code}, {err[-300:]}"
    if as_json:
        try:
            found = json.loads(out, parse_constant=float.fromhex)
        except ValueError as error:
            return f"not JSON ({error}): {out[:200]!r}"
        out, err = "", f"{found['error']['message']}\n" if "error" in found else ""
    if code in (2, 3, 4) and (out or not re.fullmatch(r"[^\x00-\x1f\x7f\u2028]{3,1100}\n", err)):
        return f"not one sentence: {out[:200]!r} {err[:400]!r}"
    return None


def shown(words: Sequence[str]) -> str:
    return " ".join(word if len(word) < 60 else f"{word[:40]}...({len(word)})" for word in words)


def faults(capsys: pytest.CaptureFixture[str], tries: Iterator[list[str]]) -> list[str]:
    """Those of the tries that ended badly, with why; every second try asks for JSON."""
    found = []
    for number, words in enumerate(tries):
        words = [words[0], *(("--json",) if number % 2 else ()), *words[1:]]
        problem = blame(capsys, words)
        if problem:
            found.append(f"{shown(words)}: {problem}")
    return found


def test_every_command_has_its_usual_question(capsys: pytest.CaptureFixture[str]) -> None:
    for name in set(COMMANDS) - {"accuracy", "calibrate"}:  # it takes no option, and seconds; it cannot here
        assert main(usual(name)) == 0, f"{name}: {capsys.readouterr().err}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_number_of_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pools = {"int": WHOLE, "float": REAL}
    tries = (
        asked(name, option, value)
        for option in COMMANDS[name]
        for value in pools.get(kind(option), ())
    )  # fmt: skip
    assert not (bad := faults(capsys, tries)), "\n".join(bad)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_word_of_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    tries = (
        asked(name, option, value)
        for option in COMMANDS[name]
        if kind(option) not in ("int", "float", "bool")
        for value in WORDS
    )
    assert not (bad := faults(capsys, tries)), "\n".join(bad)


def readers() -> list[tuple[str, Option]]:
    """What takes a file: options that are paths, and words that may name one."""
    words = {"text_file", "spec", "scenario"}
    pairs = [(name, option) for name, options in COMMANDS.items() for option in options]
    return [pair for pair in pairs if kind(pair[1]) == "Path" or pair[1].name in words]


@pytest.mark.parametrize(("name", "option"), readers(), ids=lambda one: getattr(one, "name", one))
def test_every_hostile_file(
    name: str, option: Option, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [*make.files(tmp_path / "files")]
    if "folder" in (option.help or ""):
        paths += make.folders(tmp_path / "folders")
    tries = (asked(name, option, str(path)) for path in paths)
    assert not (bad := faults(capsys, tries)), "\n".join(bad)


TAKES_EXPORTS = (["reproduce"], ["compare", "--scenario"], ["export", "memory", "--out", "o.json", "--from"])


@pytest.mark.parametrize("words", TAKES_EXPORTS, ids=lambda words: words[0])
def test_damaged_exports(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dice, paths = random.Random(7), []
    for name, data in make.containers(manifest()):
        for hurt, changed in ((name, data), *make.damaged(name, data, dice, 12)):
            paths.append(tmp_path / hurt)
            paths[-1].write_bytes(changed)
    tries = ([*words, str(path)] for path in paths)
    assert not (bad := faults(capsys, tries)), "\n".join(bad)
    assert [main([*words, str(path)]) for path in paths if path.name.startswith("whole")] == [0] * 7


ODD = (
    *(None, True, -1, 0, 1, 10**6, 2**63 - 1, 2**64, 10**39, 0.5, -0.0, 1e308, -1e308, 5e-324, float("nan")),
    *("", "x", "auto", "H100", "a\nb", "\ud800", "9" * 5_000, [], {}, [[]], [1e308] * 9, {"": None}),
)


def changed(value: Any, dice: random.Random) -> Any:
    """The same JSON with one place in it taken out, doubled, or made something else."""
    if isinstance(value, dict) and value and dice.random() < 0.95:
        key = dice.choice(list(value))
        if dice.random() < 0.05:
            return {name: part for name, part in value.items() if name != key}
        return {**value, key: changed(value[key], dice), **({"odd": 1} if dice.random() < 0.03 else {})}
    if isinstance(value, list) and value and dice.random() < 0.9:
        at = dice.randrange(len(value))
        return [*value[:at], changed(value[at], dice), *value[at + dice.choice((1, 1, 1, 0)) :]]
    return dice.choice(ODD)


SPEC = {
    **{"preset": "chat", "mixture": "Mixtral-8x7B", "dense": "Llama-2-70B", "hardware": "H100"},
    **{"devices": 2, "precision": "fp8", "kv": "bf16", "framework": "vllm", "budget": 1.5, "price": 2.5},
    **{"capacity_gb": 80, "link_gbs": 900, "task": "chat", "weights": {"cost": 2}},
    "workload": {"batch": 8, "context": 4096, "output": 256, "latency_ms": 50, "ttft_ms": 500},
    "team": {"training": "none", "skill": "some"},
}
LINK = {
    **{"architecture": "Mixtral-8x7B", "hardware": "H100", "experts": 16, "top_k": 4, "shared": 1},
    **{"preset": "chat", "rival": "auto", "batch": 8, "traffic": 1.5, "prompt": 512, "answer": 64},
    **{"cached": 0, "precision": "auto", "latency_ms": 50, "ttft_ms": 500, "many": 2, "budget_usd": 1},
    **{"price": 2, "link_gbs": 900, "task": "auto", "training": "none", "skill": "some", "weights": "cost:2"},
    **{"model": "carved", "seq": 256, "kv": "bf16", "tensor": 2, "expert": 1, "capacity": 80_000_000_000},
    **{"edit": "true", "context": 4096, "write": 64},
}
CONFIG = {
    **{"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "hidden_size": 256, "head_dim": 64},
    **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 512},
    **{"vocab_size": 1000, "num_local_experts": 4, "num_experts_per_tok": 2, "rms_norm_eps": 1e-5},
    **{"max_position_embeddings": 4096, "rope_theta": 1e6, "sliding_window": None, "torch_dtype": "bfloat16"},
    **{"tie_word_embeddings": False, "quantization_config": {"quant_method": "fp8", "bits": 8}},
}


def kept() -> tuple[tuple[str, list[str], Any], ...]:
    """What is changed, and who reads it: the words of a command before the file's name."""
    whole = json.loads(manifest().to_json())
    exports = [(words[0], words, whole) for words in TAKES_EXPORTS]
    return (
        *exports,
        ("spec", ["decide", "--spec"], SPEC),
        ("link", ["compare", "--scenario"], LINK),
        ("links", ["compare", "--scenario"], [LINK, {"name": "B", "resolved": whole["scenarios"]["A"]}]),
        ("params", ["params", "--method", "closed_form", "--config"], CONFIG),
        ("memory", ["memory", "--hardware", "H100", "--config"], CONFIG),
    )


@pytest.mark.parametrize(("name", "words", "value"), kept(), ids=lambda one: one if type(one) is str else "")
def test_changed_files(
    name: str, words: list[str], value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(name)

    def tries() -> Iterator[list[str]]:
        for number in range(TRIES):
            path = tmp_path / f"{name}_{number}.json"
            other = value
            for _ in range(dice.choice((1, 1, 2, 5))):
                other = changed(other, dice)
            path.write_text(json.dumps(other))
            yield [*words, str(path)]

    assert not (bad := faults(capsys, tries())), "\n".join(bad)


@pytest.mark.parametrize("name", sorted(USUAL.keys() | {"decide"}))
def test_several_options_at_once(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    dice = random.Random(name)
    pools = {"int": WHOLE, "float": REAL, "bool": ()}
    options = [one for one in COMMANDS[name] if one.param_type_name == "option" and one.name != "as_json"]

    def tries() -> Iterator[list[str]]:
        for _ in range(TRIES):
            words = usual(name)
            for option in dice.sample(options, min(len(options), dice.choice((2, 3, 5)))):
                if option.opts[0] in words:
                    at = words.index(option.opts[0])
                    del words[at : at + 2]
                good = ("1", "2", "8", "64", "4096") if dice.random() < 0.5 else ()
                pool = pools.get(kind(option), WORDS)
                words += [option.opts[0], *([dice.choice(good or pool)] if pool else [])]
            yield words

    assert not (bad := faults(capsys, tries())), "\n".join(bad)


@pytest.mark.parametrize(
    "words", [["decide", "--link"], ["compare", "--scenario"]], ids=lambda words: words[0]
)
def test_links(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    dice = random.Random(words[0])

    def tries() -> Iterator[list[str]]:
        for _ in range(2 * TRIES):
            said = {name: LINK[name] for name in dice.sample(list(LINK), dice.randrange(1, 9))}
            for name in dice.sample(list(said), min(len(said), dice.choice((1, 1, 2)))):
                said[name] = dice.choice((*REAL, *WORDS[:30], "true", "1,2", "1:2", "cost:1e999", "{}", "[]"))
            yield [*words, f"/{dice.choice(('', 'decide', 'compare'))}?{urlencode(said, errors='replace')}"]

    assert not (bad := faults(capsys, tries())), "\n".join(bad)


CASE = {
    **{"hardware": "H100", "framework": "vllm", "dtype": "bf16", "tokens": 64, "hidden": 4096},
    **{"inter": 14336, "experts": 8, "topk": 2, "tp": 1, "ep": 1, "distribution": "uniform"},
}


def test_tables_of_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dice = random.Random(7)

    def tries() -> Iterator[list[str]]:
        for number in range(TRIES):
            row = {**CASE, dice.choice(list(CASE)): dice.choice((*REAL, *WORDS[:30]))}
            path = tmp_path / f"{number}.csv"
            path.write_text(f"{','.join(row)}\n{','.join(map(str, row.values()))}\n", errors="replace")
            yield ["layer", "--cases", str(path)]

    assert not (bad := faults(capsys, tries())), "\n".join(bad)


@pytest.mark.parametrize("name", ["runs", "ingest"])
def test_damaged_runs(
    name: str, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is named in one line and blocks no other."""
    dice = random.Random(name)
    for seed in range(12):
        path = synthetic.write_bundle(settings.runs_dir, RunSpec(batch=1, seq=16, seed=seed), layers=1)
        hurt = dice.choice(sorted(path.iterdir()))
        if seed % 2 and hurt.suffix == ".parquet":
            data = hurt.read_bytes()
            hurt.write_bytes(next(make.damaged("", data, dice, 1))[1])
            facts = json.loads((path / "manifest.json").read_text())
            facts["files"][hurt.name]["sha256"] = hashlib.sha256(hurt.read_bytes()).hexdigest()
            facts.pop("checksum", None)
            (path / "manifest.json").write_text(json.dumps(facts))
        else:
            facts = json.loads((path / "manifest.json").read_text())
            facts.pop("checksum", None)
            (path / "manifest.json").write_text(json.dumps(changed(facts, dice)))
    for words in ([name], [name, "--json"], ["decide"]):
        assert blame(capsys, words) is None, blame(capsys, words)
    assert main([name, "--json"]) == 0
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert not [one for one in problems if "\n" in one or len(one) > 1100]


def process(words: Sequence[str], **said: Any) -> subprocess.CompletedProcess[str]:
    """A real one, with 3 GB of memory and a minute."""
    return subprocess.run(
        [sys.executable, "-m", "moe_core", *words],
        **{"stdin": subprocess.DEVNULL, **said},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3 * 10**9, 3 * 10**9)),
    )


@pytest.mark.parametrize(
    "words", [["reproduce"], ["decide", "--spec"], ["params", "--config"]], ids=lambda words: words[0]
)
def test_a_pipe_and_a_device_end_at_once_in_little_memory(words: list[str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for odd in (str(tmp_path / "pipe"), "/dev/zero"):
        done = process([*words, odd])
        assert wrong(done.returncode, done.stdout, done.stderr, False) is None, done.stderr
        assert done.returncode == 2


def test_odd_names_and_streams() -> None:
    plain = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    with open("/dev/zero") as zero:
        tries = [
            process(["decide", "--spec", "-"], stdin=zero),
            process(["reproduce", "\udcff\n"], env=plain),
            process(["compare", "--json", "--scenario", "é\udcff"], env=plain),
        ]
    for done in tries:
        assert done.returncode == 2
        assert wrong(2, done.stdout, done.stderr, "--json" in done.args) is None, done
