"""Calibration: what each feed-forward neuron of a dense model contributes, and how to foresee it.

Legend: T tokens, D model, F ffn, X = D + 1 (the input with a constant 1 behind it).
The contribution of neuron f to a token is |h_f| * ||down_f||: how far it moves the stream. Its best
linear prediction from the layer's input is closed form, so routers and groups of neurons of every
shape are sums and clusters of what is computed here once.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from moe_core.errors import StoreError
from moe_core.nn.layers import FFN
from moe_core.nn.model import Decoder

RIDGE = 1e-4  # of inputs with unit mean square: enough to invert, too little to bias
EVERY = 6  # tokens, of which the inputs of one are kept


class LayerCalibration(NamedTuple):
    """Statistics of one layer's neurons over the calibration text, fp32.

    moment_XX     mean of [x, 1] [x, 1]^T.
    predictor_FX  ridge regression of each neuron's contribution on [x, 1].
    mean_F        mean contribution: how active a neuron always is.
    inputs_TD     inputs of every so many tokens, fp16: what a carved layer is fitted on again.
    """

    moment_XX: Tensor
    predictor_FX: Tensor
    mean_F: Tensor
    inputs_TD: Tensor

    def features_FX(self) -> Tensor:
        """Rows whose inner products are the covariances of the predicted contributions, relative to the mean.

        Neurons that a linear router sees rise and fall together lie together. Grouping by what the
        router can see, not by what happens, is what makes the carved router good.
        """
        factor_XX = torch.linalg.cholesky(self.moment_XX + RIDGE * torch.eye(len(self.moment_XX)))
        centred_FX = self.predictor_FX.clone()
        centred_FX[:, -1] -= self.predictor_FX @ self.moment_XX[-1]
        return centred_FX @ factor_XX / self.mean_F.clamp_min(1e-9)[:, None]


@torch.no_grad()
def calibrate(dense: Decoder, batches: Iterable[Tensor]) -> list[LayerCalibration]:
    """Statistics of every layer of `dense` over `batches` of token ids [B, S]."""
    sums = [_Sums() for _ in dense.feed_forwards]
    hooks = [
        ffn.register_forward_pre_hook(total.listen)
        for ffn, total in zip(dense.feed_forwards, sums, strict=True)
    ]
    for ids_BS in batches:
        dense(ids_BS)
    for hook in hooks:
        hook.remove()
    return [total.solve() for total in sums]


class _Sums:
    """Running sums of one layer."""

    def __init__(self) -> None:
        self.tokens = 0
        self.moment_XX = torch.zeros(1)
        self.cross_XF = torch.zeros(1)
        self.inputs: list[Tensor] = []

    def listen(self, ffn: FFN, inputs: tuple[Tensor, ...]) -> None:
        x_TD = inputs[0].flatten(0, -2).float()
        x_TX = torch.cat((x_TD, torch.ones(len(x_TD), 1)), dim=1)
        fired_TF = ffn.hidden_activations(inputs[0]).flatten(0, -2).float().abs()
        self.tokens += len(x_TX)
        self.moment_XX = self.moment_XX + x_TX.T @ x_TX
        self.inputs.append(x_TD[::EVERY].half())
        self.cross_XF = self.cross_XF + x_TX.T @ (fired_TF * ffn.down_DF.float().norm(dim=0))

    def solve(self) -> LayerCalibration:
        moment_XX, cross_XF = self.moment_XX / self.tokens, self.cross_XF / self.tokens
        ridge_XX = RIDGE * torch.eye(len(moment_XX))
        predictor_XF = torch.linalg.solve(moment_XX + ridge_XX, cross_XF)
        predictor_FX, mean_F = predictor_XF.T.contiguous(), cross_XF[-1].contiguous()
        return LayerCalibration(moment_XX, predictor_FX, mean_F, torch.cat(self.inputs))


def save(layers: list[LayerCalibration], path: Path, made: dict[str, str]) -> None:
    """Write a calibration as it is."""
    tensors = {
        f"{index}.{name}": value.contiguous()
        for index, layer in enumerate(layers)
        for name, value in layer._asdict().items()
    }
    save_file(tensors, path, metadata=made)


def load(path: Path) -> list[LayerCalibration]:
    """The calibration stored at `path`. Raises StoreError when it is not one."""
    try:
        tensors = load_file(path)
        count = len(tensors) // len(LayerCalibration._fields)
        return [
            LayerCalibration(**{name: tensors[f"{index}.{name}"] for name in LayerCalibration._fields})
            for index in range(count)
        ]
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise StoreError(f"{path.name} cannot be read as a calibration") from error
