"""The gate of the MoE layer model: errors on architectures it never saw, from the data that ships."""

import numpy as np
import pytest

from moe_core.perf.expert_load import TILES, Load
from moe_core.perf.moe_layer import LayerCase, seconds, work
from moe_core.silicon import constants, loads
from moe_core.silicon.workshop import fit_layers, layer_accuracy, layer_tables

H100 = ("h100_sxm", "vllm", "bf16")
# Group: mean and median absolute error at most, as fractions of the measurement.
GATES = {
    H100: (0.12, 0.07),
    **{(system, "vllm", "bf16"): (0.15, 0.10) for system in ("h200_sxm", "b200_sxm", "a100_sxm", "l40s")},
    **{
        (system, "vllm", dtype): (0.18, 0.12)
        for system in ("h100_sxm", "h200_sxm", "b200_sxm")
        for dtype in ("fp8", "fp8_block")
    },
    **{("l40s", "vllm", dtype): (0.18, 0.12) for dtype in ("fp8", "fp8_block")},
}


@pytest.mark.parametrize("group", GATES, ids="/".join)
def test_errors_on_architectures_left_out(group):
    found = layer_accuracy.score(layer_accuracy.errors(*group))
    mape, median = GATES[group]
    assert found["mape"] <= mape
    assert found["median"] <= median
    assert 0.75 <= found["coverage"] <= 0.85


def charging(table, distinct):
    """The same rows by a model that has each rank read `distinct` experts, pairs spread evenly over them."""
    rows = table.rows
    fields = {name: rows[name].to_numpy() for name in LayerCase._fields if name != "gated"}
    case = LayerCase(**fields, gated=layer_tables.gated(rows, table.system))
    pairs = layer_tables.loads(rows).pairs
    tiles = [distinct * np.ceil(pairs / distinct / size) for size in TILES]
    return table._replace(work=work(case, Load(distinct, pairs, *tiles), table.machine))


@pytest.mark.parametrize("charged", ["top_k", "experts"])
def test_charging_k_or_all_experts_breaks_the_gate(charged):
    """Refitted as well: no constants make up for the wrong count."""
    table = layer_tables.read(*H100)
    rank = table.rows[charged].to_numpy() / table.rows["ep"].to_numpy()
    wrong = charging(table, np.maximum(rank, 1.0))
    refitted = fit_layers.constants(fit_layers.fit(wrong, most=3_000, steps=25))
    off = np.abs(seconds(wrong.work, refitted, cached=True) / wrong.seconds - 1)
    assert off.mean() > GATES[H100][0]


@pytest.mark.slow
def test_a_fold_fitted_again_is_the_fold_that_ships():
    table = layer_tables.read(*H100)
    shape = table.rows["shape"].to_numpy()
    left_out = "4096/14336/8/2"
    here = fit_layers.fit(table.where(shape != left_out), most=6_000, steps=40)
    rows = table.where(shape == left_out)
    again = seconds(rows.work, fit_layers.constants(here), cached=True)
    shipped = layer_accuracy.held_out(table)[shape == left_out]
    assert np.abs(np.log(again / shipped)).mean() < 0.05


def test_shipped_loads_are_what_their_definition_draws():
    shipped = loads.drawn().sample(40, random_state=0)
    for row in shipped.itertuples(index=False):
        keys = dict(zip(loads.LOAD_KEYS, row, strict=False))
        again = loads.load_of(**keys)
        assert np.allclose(again, row[len(keys) :])


def test_shipped_intervals_are_those_of_the_errors():
    shipped, here = constants.layer_intervals(*H100), layer_accuracy.measure(*H100)
    assert np.allclose(shipped, here, atol=1e-3)
