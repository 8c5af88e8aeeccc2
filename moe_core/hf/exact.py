"""Exact counting: build any model transformers knows on the meta device and count its parameters.

Worker and command line only: this file imports torch and transformers. Nothing is downloaded, no
weights are allocated, and remote code is never run: `auto_map` is ignored. Tied matrices count once.
Of a multimodal model only the language model is counted.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from moe_core.errors import ConfigError
from moe_core.hf.names import breakdown
from moe_core.hf.reader import Fields, language, short
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
_MOST_LAYERS, _MOST_EXPERTS = 10_000, 100_000
_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "intermediate_size",
    "moe_intermediate_size",
)
_NOT_SIZES = ("auto_map", "quantization_config", "compression_config", "transformers_version")


def exact(config: Mapping[str, Any], allow_defaults: bool = False) -> ParameterCount:
    """Parameters of the Hugging Face model that `config` (a config.json) describes.

    Raises ConfigError with one sentence when transformers does not know the model type, rejects the
    values, or would fill in a size that a flat config leaves out (unless `allow_defaults`).
    """
    settings = _load(config)
    shapes = _language(_build(settings))
    if not allow_defaults and not language(config).nested:
        _require_sizes(config, settings, shapes)
    experts, top_k = _routing(settings.get_text_config())
    parts = breakdown(shapes, experts)
    if parts.experts and (experts is None or top_k is None):
        raise ConfigError("config.json: has experts, but not how many of them a token visits")
    share = (top_k, experts) if parts.experts and top_k and experts else (1, 1)
    return summarise(parts, share, "meta")


def defaulted(config: Mapping[str, Any], settings: Any = None) -> tuple[str, ...]:
    """Sizes that `config` leaves to the class defaults of transformers."""
    text = (settings or _load(config)).get_text_config()
    given = set(language(config).values)
    wanted = [name for name in _SIZES if isinstance(getattr(text, name, None), int)]
    own = [name for name in wanted if not isinstance(getattr(type(text), name, None), property)]
    return tuple(name for name in own if not given & {name, text.attribute_map.get(name, name)})


def _require_sizes(config: Mapping[str, Any], settings: Any, shapes: Mapping[str, torch.Size]) -> None:
    """Raises ConfigError for a size that is missing and that the count depends on."""
    total = sum(shape.numel() for shape in shapes.values())
    for name in defaulted(config, settings):
        doubled = {**config, name: 2 * getattr(settings.get_text_config(), name)}
        try:
            other = sum(shape.numel() for shape in _language(_build(_load(doubled))).values())
        except ConfigError:
            other = None  # the class cannot be built with another value, so it reads this one
        if other != total:
            raise Fields({}).missing(name)


def supported(model_type: str) -> bool:
    """Whether the installed transformers has a class for `model_type`."""
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


def _load(config: Mapping[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING, __version__

    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise ConfigError("config.json: model_type is missing")
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
            with _quiet(), _one_sentence(settings.model_type), torch.device("meta"):
                model: nn.Module = auto.from_config(
                    chosen, trust_remote_code=False, attn_implementation="eager"
                )
                return model
    raise ConfigError(f"model_type ({settings.model_type}): transformers has no language model for it")


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
