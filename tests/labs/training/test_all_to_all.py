"""E12: published latencies are the table's, shares the arithmetic they say, and the local run is real."""

from __future__ import annotations

import pytest

from moe_core.labs.training import all_to_all as lab
from moe_core.labs.training.all_to_all import ExchangeShare, ExchangeTopology
from moe_core.runs import bundle
from moe_core.runs.bundle import Bundle
from moe_core.runs.context import RunContext
from moe_core.specs import Experts, RunSpec, Training


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOE_DATA_DIR", str(tmp_path_factory.mktemp("state")))
        patch.setitem(lab.HERE_TOKENS, "quick", (8, lab.HERE_AT))
        patch.setitem(lab.ROUNDS, "quick", 5)
        spec = RunSpec(lab="all_to_all", training=Training())
        return bundle.verify(lab.execute(spec, RunContext()))


@pytest.mark.parametrize(
    ("exchange", "experts", "total", "exposed"),
    [(1.0, 3.0, 0.25, 0.0), (3.0, 1.0, 0.75, 2 / 3), (2.0, 2.0, 0.5, 0.0)],
)
def test_what_hides_is_not_exposed(exchange, experts, total, exposed):
    share = ExchangeShare(exchange, experts)
    assert share.total == pytest.approx(total)
    assert share.exposed == pytest.approx(exposed)


def test_the_exchange_is_that_of_the_table():
    """ai-dynamo/aiconfigurator, H100, hidden 7168, top-8 of 256: 128 tokens take 36.7 and 67.0 us."""
    share = lab.share_of(ExchangeTopology("h100_sxm", 8, "decode"), 128)
    assert share is not None
    assert share.exchange == pytest.approx(36.7e-6 + 67.0e-6, rel=2e-3)


def test_what_no_table_has_is_left_out():
    assert lab.share_of(ExchangeTopology("b200_sxm", 64, "decode"), 128) is None
    assert lab.share_of(ExchangeTopology("a100_sxm", 8, "decode"), 128) is None


def test_more_nodes_exchange_longer():
    seconds = [lab.share_of(ExchangeTopology("h100_sxm", ranks, "decode"), 128) for ranks in lab.RANKS]
    assert all(one is not None for one in seconds)
    assert seconds[0].exchange < min(one.exchange for one in seconds[1:])


def test_published_shares_span_what_their_topologies_do(done):
    found = done.manifest.summary["findings"]
    single = [one["value"] for name, one in found.items() if name.startswith("share.")]
    assert found["share_low"]["value"] == min(single)
    assert found["share_high"]["value"] == max(single)
    assert 0 < found["share_low"]["value"] < found["share_high"]["value"] < 1
    assert all(found[name.replace("share.", "exposed.")]["value"] <= found[name]["value"] for name in found
               if name.startswith("share."))  # fmt: skip


def test_two_processes_really_exchanged(done):
    series = done.table("series").to_pandas()
    here = series[(series.arm == lab.SERIAL) & (series.x == lab.HERE_AT)].set_index("metric").value
    assert 0 < here["exchange_seconds"] < here["seconds"]
    assert 0 < here["computed_seconds"] < here["seconds"]
    found = done.manifest.summary["findings"]
    assert 0 < found["share_here"]["value"] < 1
    assert 0 <= found["exposed_here"]["value"] < 1


class Notes:
    """A board that only writes down."""

    def __init__(self) -> None:
        self.put_values: dict[tuple[str, str], float] = {}

    def put(self, arm: str, seed: int, metric: str, x: float, value: float, axis: str) -> None:
        self.put_values[arm, metric] = value


def test_medians_of_rounds():
    board = Notes()
    rest = {"router": 1.0, "pack": 0.5, "experts": 5.0, "combine": 1.0, "unpack": 0.5}
    rounds = [
        rest | {"dispatch": dispatch, "overlapped": overlapped}
        for dispatch, overlapped in ((2.0, 8.0), (20.0, 10.0), (1.0, 10.0))
    ]
    lab.put_here(board, 0, 8, rounds)  # type: ignore[arg-type]
    assert board.put_values[lab.SERIAL, "computed_seconds"] == 7.0
    assert board.put_values[lab.SERIAL, "share"] == pytest.approx(3 / 10)
    assert board.put_values[lab.OVERLAPPED, "seconds"] == 10.0
    assert board.put_values[lab.OVERLAPPED, "exposed"] == pytest.approx(0.3)


def test_the_local_layer_divides_over_its_ranks():
    assert isinstance(lab.HERE, Experts)
    assert lab.HERE.count % lab.HERE_RANKS == 0
    assert all(lab.HERE_AT in tokens for tokens in lab.HERE_TOKENS.values())
