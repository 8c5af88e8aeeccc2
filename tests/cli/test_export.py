"""`export` and `reproduce`: files that open, one sentence when they cannot be made, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pptx import Presentation

from moe_core.cli import main
from moe_core.report import embed, kinds
from moe_core.report.manifest import make, ran
from moe_core.runs import bundle
from moe_core.settings import Settings
from moe_core.specs import RunSpec
from moe_core.store import reviews
from moe_core.store.db import Store
from tests import synthetic
from tests.report.reviewed import review, verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("drawn_once")]


@pytest.fixture
def kept(settings: Settings) -> str:
    """A saved review."""
    store = Store.open(settings)
    identity = reviews.create(store, review(), "Ada")
    store.close()
    return identity


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.mark.parametrize("ending", ["png", "svg", "pdf", "html", "parquet", "json"])
def test_a_chart_is_written_and_reproduced(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    out = tmp_path / f"memory.{ending}"
    code, text = run(capsys, "export", "memory", "--model", "mixtral-8x7b", "--out", out, "--json")
    assert code == 0
    values = json.loads(text)
    assert values["written"] == [{"path": str(out), "bytes": out.stat().st_size}]
    assert values["manifest"]["scenarios"]["Mixtral-8x7B"]["batch"] == 16
    code, text = run(capsys, "reproduce", out, "--json")
    assert code == 0
    assert json.loads(text)["equal"] == len(values["manifest"]["numbers"]) > 12


def test_a_csv_has_its_manifest_beside_it(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ("--model", "mixtral-8x7b", "--model", "llama-2-70b")
    assert run(capsys, "export", "growth", *models, "--out", tmp_path / "g.csv")[0] == 0
    assert run(capsys, "reproduce", tmp_path / "g.manifest.json")[0] == 0
    code, text = run(capsys, "reproduce", tmp_path / "g.csv")
    assert code == 2
    assert "the file beside it" in text


@pytest.mark.parametrize("ending", ["pptx", "html", "pdf"])
def test_a_review_is_written_while_the_dashboard_has_the_database(
    settings: Settings, kept: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    holder = Store.open(settings)
    out = tmp_path / f"review.{ending}"
    code, _ = run(capsys, "export", "review", "--review", kept, "--out", out)
    assert code == 0
    assert run(capsys, "reproduce", out)[0] == 0
    again = tmp_path / "again.zip"
    assert run(capsys, "export", "page", "--from", out, "--out", again)[0] == 0
    assert embed.read(again).scenarios == embed.read(out).scenarios
    holder.close()
    if ending == "pptx":
        assert len(Presentation(str(out)).slides) > 6


def test_a_number_that_differs_is_exit_code_one(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.json"
    run(capsys, "export", "memory", "--model", "mixtral-8x7b", "--out", out)
    out.write_text(out.read_text().replace("46702792704", "46702792705"))
    code, text = run(capsys, "reproduce", out)
    assert code == 1
    assert "different" in text
    assert text.strip().endswith("equal, 1 different")


@pytest.mark.parametrize("ending", ["pptx", "html", "pdf"])
def test_a_verdict_is_made_again_and_a_changed_margin_is_found(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    store = Store.open(settings)
    identity = reviews.create(store, review(verdict=verdict().model_dump(mode="json")), "Ada")
    store.close()
    out = tmp_path / f"review.{ending}"
    assert run(capsys, "export", "review", "--review", identity, "--out", out)[0] == 0
    code, text = run(capsys, "reproduce", out, "--json")
    assert code == 0
    names = {one["name"] for one in json.loads(text)["numbers"] if one["of"] == "verdict"}
    assert {"Verdict", "Margin", "Flips", "Score memory", "Strongest counter-argument"} <= names
    made = json.loads(embed.read(out).to_json())
    margin = next(one for one in made["numbers"] if one["how"] == "decide.margin")
    margin["value"] += 0.01
    (tmp_path / "m.json").write_text(json.dumps(made))
    code, text = run(capsys, "reproduce", tmp_path / "m.json")
    assert code == 1
    assert "different verdict: Margin" in text
    assert text.strip().endswith("equal, 1 different")


def test_a_measured_number_is_compared_with_its_run(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = synthetic.write_bundle(settings.runs_dir, RunSpec(batch=2, seq=32), seed=1)
    found = bundle.read(path)
    made = make("figure", "x", runs=[ran(found.manifest)], numbers=kinds.of_run(found))
    (tmp_path / "m.json").write_text(made.to_json())
    assert run(capsys, "reproduce", tmp_path / "m.json")[0] == 0
    bundle.remove(settings.runs_dir, found.manifest.run_id)
    code, text = run(capsys, "reproduce", tmp_path / "m.json")
    assert code == 1
    assert "is no run of this installation" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("memory", "--out", "x.svg"), "one of --model or --config, --review and --from"),
        (("memory", "--model", "mixtral-8x7b", "--out", "x.doc"), "out (.doc)"),
        (("nothing", "--model", "mixtral-8x7b", "--out", "x.svg"), "what (nothing): must be"),
        (("memory", "--model", "no such model", "--out", "x.svg"), "is not known"),
        (("memory", "--model", "mixtral-8x7b", "--batch", "0", "--out", "x.svg"), "batch (0)"),
        (("memory", "--model", "mixtral-8x7b", "--dtype", "fp3", "--out", "x.svg"), "dtype (fp3)"),
        (("review", "--review", "../../etc/passwd", "--out", "x.pptx"), "16 hexadecimal digits"),
        (("review", "--review", "0" * 16, "--out", "x.pptx"), "must be a review saved here"),
    ],
)
def test_what_cannot_be_written_is_one_sentence(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    code, text = run(capsys, "export", *words)
    assert code == 2
    assert sentence in text
    assert text.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_disk_that_refuses_leaves_nothing(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = run(
        capsys, "export", "memory", "--model", "mixtral-8x7b", "--out", tmp_path / "no" / "m.svg"
    )
    assert code == 4
    assert "cannot be written" in text
    assert not (tmp_path / "no").exists()
