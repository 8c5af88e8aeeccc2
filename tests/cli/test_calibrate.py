"""`calibrate` on the command line: measured once, known afterwards, measured again on request."""

import json

import pytest

from moe_core.cli import main
from moe_core.labs import device_probe, probes
from moe_core.settings import Settings


@pytest.fixture(autouse=True)
def small(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes of a thousandth of their size."""
    monkeypatch.setattr(probes, "BANKS", ((32, 16, 8, 2), (32, 32, 8, 1)))
    monkeypatch.setattr(probes, "NETWORKS", ((48, 64),))
    monkeypatch.setattr(probes, "PRODUCTS", ((64, 64),))
    monkeypatch.setattr(probes, "ROUTERS", ((32, 8),))
    monkeypatch.setattr(probes, "ROWS", (1, 4, 16))
    monkeypatch.setattr(probes, "MORE_ROWS", ())
    monkeypatch.setattr(probes, "READS", (2**14,))
    monkeypatch.setattr(device_probe, "BUDGET_S", 0.05)
    monkeypatch.setattr(device_probe, "BUSY_S", 0.05)
    monkeypatch.setattr(probes, "PAIRS_ROWS", (64,))
    monkeypatch.setattr("moe_core.labs.bank.OVERFLOW", 0.01)


def say(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["calibrate", "--device", "cpu", *words])
    return code, capsys.readouterr().out


def test_json_has_the_roof_the_overheads_and_where_it_lies(
    capsys: pytest.CaptureFixture[str], settings: Settings
):
    code, out = say(capsys, "--json")
    values = json.loads(out)
    assert code == 0
    assert not values["reused"]
    assert values["launch_s"] > 0
    fp32 = values["dtypes"]["fp32"]
    assert fp32["ridge_flops_per_byte"] == pytest.approx(fp32["flops"] / fp32["bytes"])
    assert (settings.runs_dir / values["run_id"] / "manifest.json").exists()


def test_it_is_known_afterwards_and_measured_again_on_request(capsys: pytest.CaptureFixture[str]):
    first, known, again = (json.loads(say(capsys, *words, "--json")[1]) for words in ((), (), ("--again",)))
    assert (first["reused"], known["reused"], again["reused"]) == (False, True, False)
    assert known["calibration"] == first["calibration"]
    assert again["calibration"] != first["calibration"]


def test_text_is_a_few_lines(capsys: pytest.CaptureFixture[str]):
    code, out = say(capsys)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()][:3] == ["device", "memory", "launch"]
    assert "FLOP/s" in out


def test_an_unknown_device_is_one_sentence(capsys: pytest.CaptureFixture[str]):
    assert main(["calibrate", "--device", "tpu"]) == 2
    assert "device (tpu)" in capsys.readouterr().err
