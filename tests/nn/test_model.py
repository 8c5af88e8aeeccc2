import pytest
import torch

from moe_core.errors import ConfigError
from moe_core.nn.model import Decoder, initialise
from moe_core.specs import GQA, MLA, Architecture, Experts, Router
from tests.nn.small import architecture, decoder

MIXTURE = Experts(count=4, top_k=2, width=24, shared=1)


@pytest.mark.parametrize("experts", [None, MIXTURE], ids=["dense", "mixture"])
def test_decoding_with_the_cache_equals_one_pass(experts):
    model, ids = decoder(experts), torch.randint(0, 256, (2, 12))
    cache = model.new_cache(2, 12)
    with torch.no_grad():
        steps = [model(ids[:, :7], cache)] + [model(ids[:, i : i + 1], cache) for i in range(7, 12)]
        torch.testing.assert_close(torch.cat(steps, dim=1), model(ids), rtol=1e-4, atol=1e-5)
    assert cache.filled == 12


def test_rewinding_the_cache_repeats_a_step_exactly():
    model, ids = decoder(MIXTURE), torch.randint(0, 256, (1, 5))
    cache = model.new_cache(1, 8)
    with torch.no_grad():
        model(ids[:, :4], cache)
        first = model(ids[:, 4:], cache)
        cache.rewind(4)
        assert torch.equal(first, model(ids[:, 4:], cache))


@pytest.mark.parametrize(
    ("ids", "batch", "sentence"),
    [
        ((1, 5), 4, r"batch \(1\): must be 4, that of the cache"),
        ((4, 1), 1, r"batch \(4\): must be 1, that of the cache"),
        ((2, 9), 2, r"positions \(9\): must be at most 8, the size of the cache"),
        ((2, 65), None, r"positions \(65\): must be at most 64"),
    ],
)
def test_ids_that_do_not_fit_the_cache_are_refused(ids, batch, sentence):
    model = decoder(MIXTURE)
    cache = None if batch is None else model.new_cache(batch, 8)
    with torch.no_grad(), pytest.raises(ConfigError, match=sentence):
        model(torch.zeros(ids, dtype=torch.int64), cache)


def test_a_full_cache_takes_no_further_token():
    """One token more: assigning it to an empty slice would be no error and write nothing."""
    model, ids = decoder(MIXTURE, max_positions=8), torch.zeros(2, 8, dtype=torch.int64)
    for positions in (4, 8):
        cache = model.new_cache(2, positions)
        with torch.no_grad():
            model(ids[:, :positions], cache)
            with pytest.raises(
                ConfigError, match=rf"positions \({positions + 1}\): must be at most {positions}"
            ):
                model(ids[:, :1], cache)
        assert cache.filled == positions


def test_a_cache_of_another_model_is_refused():
    model, ids = decoder(MIXTURE), torch.zeros(2, 3, dtype=torch.int64)
    heads = decoder(MIXTURE, attention=GQA(heads=4, kv_heads=1, head_dim=8))
    with torch.no_grad(), pytest.raises(ConfigError, match=r"kv_heads \(1\): must be 2"):
        heads(ids, model.new_cache(2, 8))
    with torch.no_grad(), pytest.raises(AssertionError, match="made by its own model"):
        decoder(MIXTURE, layers=1)(ids, model.new_cache(2, 8))


def test_the_future_does_not_reach_the_past():
    model, ids = decoder(MIXTURE), torch.randint(0, 256, (1, 10))
    changed = ids.clone()
    changed[0, -1] = (changed[0, -1] + 1) % 256
    with torch.no_grad():
        torch.testing.assert_close(model(ids)[:, :-1], model(changed)[:, :-1])


def test_first_dense_and_every_second_layer():
    model = decoder(MIXTURE, layers=5, first_dense=1, moe_every=2)
    kinds = [type(ffn).__name__ for ffn in model.feed_forwards]
    assert kinds == ["FFN", "FFN", "MoE", "FFN", "MoE"]
    assert model.arch.moe_layers == (2, 4)


def test_the_same_seed_gives_the_same_weights():
    for name, value in decoder(MIXTURE, seed=3).state_dict().items():
        assert torch.equal(value, decoder(MIXTURE, seed=3).state_dict()[name]), name
    assert not torch.equal(decoder(seed=3).embedding.weight, decoder(seed=4).embedding.weight)


@pytest.mark.parametrize("experts", [None, MIXTURE], ids=["dense", "mixture"])
def test_nothing_is_left_to_chance_when_a_decoder_is_built(experts):
    """Memory that was never written holds what was freed before: here nan."""
    poison = [torch.full((2**k,), float("nan")) for k in range(4, 15) for _ in range(4)]
    del poison
    torch.manual_seed(0)
    before = torch.get_rng_state()
    arch = architecture(experts, tied=False, attention=GQA(heads=4, kv_heads=2, head_dim=8, qkv_bias=True))
    model, again = Decoder(arch), Decoder(arch)
    assert torch.equal(torch.get_rng_state(), before)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name
        assert parameter.abs().max() <= (1.0 if "norm" in name else 0.2), name
    layers = [block.attention.query.weight for block in model.blocks]
    assert not torch.equal(*layers)


def test_every_parameter_is_initialised():
    biased = Experts(count=4, top_k=2, width=24, shared=1, router=Router(bias=True))
    model = Decoder(architecture(biased))
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    initialise(model, 0)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_what_cannot_be_run_is_refused_in_one_sentence():
    latent = MLA(heads=2, kv_rank=8, nope_dim=4, rope_dim=4, v_dim=4)
    with pytest.raises(ConfigError, match=r"attention.kind \(mla\): must be gqa"):
        Decoder(Architecture(hidden=8, layers=1, vocab=8, attention=latent, ffn_width=8))
    with pytest.raises(ConfigError, match=r"positions \(65\): must be at most 64"):
        decoder().new_cache(1, 65)
