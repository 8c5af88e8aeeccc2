"""Training memory: 16 bytes a parameter with AdamW, and activations that recomputing shrinks."""

from moe_core.perf.memory import Workload, model
from moe_core.perf.training import saved, training
from tests.perf.test_params import MIXTRAL

STEP = Workload(batch=1, context=4096)


def test_adamw_in_mixed_precision_takes_16_bytes_a_parameter() -> None:
    need = training(model(MIXTRAL), STEP)
    total = model(MIXTRAL).parameters.total
    assert need.weights_total + need.gradients + need.optimizer == 16 * total
    assert training(model(MIXTRAL), STEP, gradients="fp32").gradients == 4 * total
    assert training(model(MIXTRAL), STEP, "sgd").optimizer == 4 * total
    assert need.kv_cache == need.state == 0


def test_recomputing_keeps_one_input_a_layer() -> None:
    subject = model(MIXTRAL)
    kept, all_kept = saved(subject, STEP, recompute=True), saved(subject, STEP, recompute=False)
    assert 10 * kept < 2 * all_kept
    assert kept > 32 * 4096 * 4096 * 2
    assert saved(subject, Workload(batch=2, context=4096)) == 2 * kept
