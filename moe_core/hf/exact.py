"""Exact counting: build any model transformers knows on the meta device, count it, and see what it keeps.

Worker and command line only: this file imports torch and transformers. Nothing is downloaded, no
weights are allocated, and remote code is never run: `auto_map` is ignored. Tied matrices count once.
Vision and audio towers are counted apart from the language model. What a config leaves out has the class
default of transformers, and is named.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import __version__

from moe_core.errors import ConfigError
from moe_core.hf.kept import inner, kept
from moe_core.hf.names import breakdown
from moe_core.hf.reader import language, no_model, short
from moe_core.perf.memory import Model
from moe_core.perf.params import ParameterCount, summarise

_COUNT_KEYS = ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
_TOP_K_KEYS = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "moe_topk",
    "moe_top_k",
    "moe_k",
    "top_k_experts",
    "num_experts_per_topk",
)
_TOWERS = r"(vision|visual|image|audio|video|multi_modal_projector|mm_projector|connector|embed_vision)"
_TOWER_CONFIGS = ("vision_config", "audio_config", "vision_tower_config", "thinker_config")
_MOST_LAYERS, _MOST_EXPERTS = 10_000, 100_000
_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "intermediate_size",
    "moe_intermediate_size",
    "num_local_experts",
    "n_routed_experts",
    "num_experts",
    "num_experts_per_tok",
    "kv_lora_rank",
)
_NOT_SIZES = ("auto_map", "quantization_config", "compression_config", "transformers_version")


class Skeleton(NamedTuple):
    """What building a model tells: parameters, what memory needs, and what to mention.

    model None: why what it keeps of a sequence is not known stands in `notes`. shapes: those of the language
    model. filled: the settings with what the config leaves to the class, in its own spelling.
    """

    parameters: ParameterCount
    model: Model | None
    notes: tuple[str, ...]
    shapes: dict[str, torch.Size]
    experts: int | None
    filled: dict[str, Any]


def exact(config: Mapping[str, Any]) -> ParameterCount:
    """Parameters of the Hugging Face model that `config` (a config.json) describes. As `build`."""
    return build(config).parameters


def build(config: Mapping[str, Any]) -> Skeleton:
    """The Hugging Face model that `config` (a config.json) describes, on the meta device.

    Raises ConfigError with one sentence when transformers does not know the model type or rejects the values.
    """
    settings = _load(config)
    whole = _build(settings)
    text = settings.get_text_config()
    experts, top_k = _routing(text)
    idle = _first([text], ("zero_expert_num",)) or 0
    shapes = _weighty(_language(whole), experts, idle)
    parts = breakdown(shapes, experts)
    if parts.experts and (experts is None or top_k is None):
        raise ConfigError("config.json: has experts, but not how many of them a token visits")
    share = (top_k, experts + idle) if parts.experts and top_k and experts else (1, 1)
    counted = summarise(parts._replace(tower=_tower(settings, config)), share, "meta")
    notes = [*_defaults(config, settings), *_idle(idle, share), *_towers(counted.breakdown.tower)]
    model = None
    try:
        model = _model(whole, text, counted, share, experts, _layers(shapes))
    except ConfigError as reason:
        notes.append(str(reason))
    return Skeleton(counted, model, tuple(notes), shapes, experts, _filled(config, settings))


def _weighty(shapes: dict[str, torch.Size], experts: int | None, idle: int) -> dict[str, torch.Size]:
    """Without what a class allocates for experts that compute nothing, and no checkpoint holds."""
    if not idle or experts is None:
        return shapes
    return {
        name: torch.Size((experts, *shape[1:])) if len(shape) == 3 and shape[0] == experts + idle else shape
        for name, shape in shapes.items()
    }


def _layers(shapes: Mapping[str, torch.Size]) -> int:
    """Decoder layers: LongCat's settings count each twice, for its two attentions."""
    found = {
        match.group(1) for name in shapes if (match := re.search(r"\.(?:layers|h|blocks)\.(\d+)\.", name))
    }
    return max(len(found), 1)


def _model(
    whole: nn.Module,
    text: Any,
    counted: ParameterCount,
    share: tuple[int, int],
    experts: int | None,
    layers: int,
) -> Model:
    """What memory needs. A token visits `share` of its experts: of those with weights, as many on average."""
    inside = inner(whole, text, counted.breakdown, share, layers)
    routing = None
    if counted.breakdown.experts and experts:
        routing = (max(round(share[0] * experts / share[1]), 1), experts)
    return Model("", counted, kept(whole, text), inside, layers, routing)


def _defaults(config: Mapping[str, Any], settings: Any) -> list[str]:
    missing = defaulted(config, settings)
    if not missing:
        return []
    text = settings.get_text_config()
    said = ", ".join(f"{name} {getattr(text, name)}" for name in missing)
    return [f"left out of the config, so the class defaults of transformers {__version__} count: {said}"]


def _idle(idle: int, share: tuple[int, int]) -> list[str]:
    if not idle:
        return []
    return [
        f"{idle} of {share[1]} experts compute nothing and have no weights: of top-{share[0]}, "
        f"{share[0] * (share[1] - idle) / share[1]:.3g} on average have"
    ]


def _towers(elements: int) -> list[str]:
    return [f"vision and audio towers have {elements:,} parameters, counted in the total"] if elements else []


def _tower(settings: Any, config: Mapping[str, Any]) -> int:
    """Parameters of vision and audio towers that the config describes; 0 where it describes none."""
    from transformers import AutoModelForImageTextToText, AutoModelForMultimodalLM

    if not any(isinstance(config.get(name), dict) for name in _TOWER_CONFIGS):
        return 0
    for auto in (AutoModelForImageTextToText, AutoModelForMultimodalLM):
        if type(settings) in auto._model_mapping:
            shapes = {name: p.shape for name, p in _made(auto, settings, settings).named_parameters()}
            return sum(shape.numel() for name, shape in shapes.items() if _outside(name))
    return 0


def _filled(config: Mapping[str, Any], settings: Any) -> dict[str, Any]:
    """The language model's settings in full, for the closed form: what is said over the class defaults."""
    text = settings.get_text_config()
    with _quiet():
        defaults = {name: value for name, value in text.to_dict().items() if _plain(value)}
    said = {name: value for name, value in language(config).values.items() if value is not None}
    return {**defaults, **said, "model_type": text.model_type}


def _plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str | list | dict)


def defaulted(config: Mapping[str, Any], settings: Any = None) -> tuple[str, ...]:
    """Sizes that `config` leaves to the class defaults of transformers."""
    text = (settings or _load(config)).get_text_config()
    given = set(language(config).values)
    wanted = [name for name in _SIZES if isinstance(getattr(text, name, None), int)]
    own = [name for name in wanted if not isinstance(getattr(type(text), name, None), property)]
    spelt = {text.attribute_map.get(name, name): name for name in reversed(own)}  # one spelling of each
    return tuple(name for name in own if name in spelt.values() and not given & _spellings(text, name))


def _spellings(text: Any, name: str) -> set[str]:
    """The names that a setting goes by in its class."""
    called = text.attribute_map.get(name, name)
    return {name, called, *(other for other, own in text.attribute_map.items() if own == called)}


def supported(model_type: str) -> bool:
    """Whether the installed transformers has a class for `model_type`."""
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


def _load(config: Mapping[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING

    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise no_model(config)
    if kind not in CONFIG_MAPPING:
        raise ConfigError(f"model_type ({short(kind)}): transformers {__version__} has no class for it")
    _require_sane(language(config).values)
    values = {key: value for key, value in config.items() if key not in ("model_type", *_NOT_SIZES)}
    with _quiet(), _one_sentence(kind):
        settings = CONFIG_MAPPING[kind](**values)
        settings.get_text_config().pad_token_id = 0  # a class default may lie outside the vocabulary
        return settings


def _require_sane(values: Mapping[str, Any]) -> None:
    """Layers and experts are built one by one, so an absurd number of them would never end."""
    for name, value in values.items():
        layers = name in ("n_layer", "n_layers") or name.endswith("_layers")
        most = _MOST_LAYERS if layers else _MOST_EXPERTS if name.endswith("_experts") else None
        if most is not None and isinstance(value, int) and value > most:
            raise ConfigError(f"{name} ({value}): must be at most {most:,}")


def _build(settings: Any) -> nn.Module:
    """The language model where transformers has it alone, else the multimodal model around it."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM

    text = settings.get_text_config()
    tries = [(AutoModelForCausalLM, text), (AutoModelForCausalLM, settings)]
    tries += [(AutoModelForImageTextToText, settings), (AutoModelForMultimodalLM, settings)]
    for auto, chosen in tries:
        if type(chosen) in auto._model_mapping:
            return _made(auto, chosen, settings)
    raise ConfigError(f"model_type ({settings.model_type}): transformers has no language model for it")


def _made(auto: Any, chosen: Any, settings: Any) -> nn.Module:
    with _quiet(), _one_sentence(settings.model_type), torch.device("meta"):
        model: nn.Module = auto.from_config(chosen, trust_remote_code=False, attn_implementation="eager")
        return model


def _language(model: nn.Module) -> dict[str, torch.Size]:
    """Shapes of the language model's parameters by name, each tied one once."""
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    if not any(re.search(rf"(^|\.){_TOWERS}", name) for name in shapes):
        return shapes
    return {name: shape for name, shape in shapes.items() if not _outside(name)}


def _outside(name: str) -> bool:
    return re.search(rf"(^|\.){_TOWERS}", name) is not None


def _routing(text: Any) -> tuple[int | None, int | None]:
    """(experts, top-k) from whatever this family calls them; DBRX nests them in `ffn_config`."""
    sources = [text, getattr(text, "ffn_config", None)]
    return _first(sources, _COUNT_KEYS), _first(sources, _TOP_K_KEYS)


def _first(sources: list[Any], keys: tuple[str, ...]) -> int | None:
    for source in sources:
        for key in keys:
            value = source.get(key) if isinstance(source, dict) else getattr(source, key, None)
            if isinstance(value, list):  # one per layer: only a uniform list has one answer
                value = value[0] if value and all(item == value[0] for item in value) else None
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    return None


@contextmanager
def _one_sentence(kind: str) -> Iterator[None]:
    """Whatever a model class raises over strange values becomes one sentence for the user."""
    try:
        yield
    except ConfigError:
        raise
    except (ImportError, OSError) as error:
        raise ConfigError(
            f"model_type ({kind}): needs a package that is not installed: {_brief(error)}"
        ) from error
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        why = "a value it needs is missing or of another kind"
        raise ConfigError(f"config.json ({kind}): transformers rejects it, {why}: {_brief(error)}") from error
    except Exception as error:
        raise ConfigError(f"config.json ({kind}): transformers rejects it: {_brief(error)}") from error


def _brief(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:200] or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Class warnings about rope fields and the like are not for our users."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
