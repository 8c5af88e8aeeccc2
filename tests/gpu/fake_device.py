"""A CUDA or Apple device without one: torch's rules for devices, real numbers, and a list of what waited.

Under torch's `FakeTensorMode` a tensor says that it lives on "cuda", and operators that mix devices raise
as they do on a card. Every fake tensor carries its values in a CPU tensor, its shadow, on which the same
operator runs: what a pass reads back from the device (`item`, `nonzero`, a boolean index) is answered
truly, so results can be held against the CPU's, and every such wait is noted. Tensors on the host stay
what they are.

What it cannot do: gradients (building an autograd graph for a CUDA tensor aborts a build without CUDA), the
rounding of a device's own kernels, and time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

CAPABILITIES = ((7, 5), (8, 0), (8, 9), (9, 0), (10, 0), (12, 0))
NATIVE_GROUPED_MM = (
    9,
    10,
)  # majors for which torch has a grouped product; elsewhere it copies `offs` and loops
aten = torch.ops.aten
# Operators whose result is as long as the numbers say: the host has to read them.
DATA_DEPENDENT = {
    aten.nonzero,
    aten.masked_select,
    aten.bincount,
    aten._unique2,
    aten.unique_consecutive,
    aten.unique_dim,
    aten.equal,
    aten.is_nonzero,
}
WHOLE = {aten.scaled_dot_product_attention.default}  # what it is made of depends on the card


class Device:
    """A pretended device. `waits` names every moment at which the host had to wait for it."""

    def __init__(self, kind: str, capability: tuple[int, int]) -> None:
        self.torch, self.capability = torch.device(kind), capability
        self.waits: list[str] = []

    @contextmanager
    def watched(self) -> Iterator[list[str]]:
        """The waits of the block, when it is over."""
        start, seen = len(self.waits), list[str]()
        yield seen
        seen += self.waits[start:]

    def holds(self, value: Any) -> bool:
        """Whether a tensor lives here."""
        return isinstance(value, Tensor) and value.device.type == self.torch.type

    def is_named(self, value: Any) -> bool:
        """Whether an argument makes an operator one of this device."""
        return self.holds(value) or (isinstance(value, torch.device) and value.type == self.torch.type)


@contextmanager
def pretend(
    monkeypatch: pytest.MonkeyPatch, kind: str = "cuda", capability: tuple[int, int] = (9, 0)
) -> Iterator[Device]:
    """`torch.device(kind)` can be computed on inside the block, without gradients."""
    device = Device(kind, capability)
    with ExitStack() as stack:
        patch = stack.enter_context(monkeypatch.context())
        _answers(patch, device)
        stack.enter_context(torch.inference_mode())
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(_Shadows(device))
        stack.enter_context(_Python(device))
        yield device


def values(tensor: Tensor) -> Tensor:
    """What stands in a tensor, fake or not, as a CPU tensor. For assertions: never counted as a wait."""
    return tensor.shadow if isinstance(tensor, FakeTensor) else tensor  # type: ignore[attr-defined, no-any-return]


def _answers(patch: pytest.MonkeyPatch, device: Device) -> None:
    """What torch says of the device."""
    there = device.torch.type
    properties = SimpleNamespace(total_memory=80 * 2**30, L2_cache_size=2**20)
    replies: dict[str, Callable[..., Any]] = {
        "is_available": lambda: there == "cuda",
        "get_device_capability": lambda *_: device.capability,
        "get_device_properties": lambda *_: properties,
        "get_device_name": lambda *_: "NVIDIA Pretended",
        "mem_get_info": lambda *_: (70 * 2**30, 80 * 2**30),
        "synchronize": lambda *_: device.waits.append("synchronize"),
        "current_stream": lambda *_: None,
        "reset_peak_memory_stats": lambda *_: None,
        "max_memory_allocated": lambda *_: 2**20,
        "Event": lambda **_: _Event(device),
    }
    for name, reply in replies.items():
        patch.setattr(torch.cuda, name, reply)
    patch.setattr(torch.version, "cuda", "13.0")
    patch.setattr(torch.backends.mps, "is_available", lambda: there == "mps")
    patch.setattr(torch.mps, "synchronize", lambda: device.waits.append("synchronize"))
    for name in ("driver_allocated_memory", "recommended_max_memory"):
        patch.setattr(torch.mps, name, lambda large=name.startswith("rec"): 2**35 if large else 2**20)
    patch.setattr(torch, "Generator", _Generator)
    patch.setattr(FakeTensor, "__deepcopy__", _copy, raising=False)
    patch.delattr(FakeTensor, "tolist")  # its own reads element by element: many waits where there is one


class _Event:
    """An event of the host's clock."""

    def __init__(self, device: Device) -> None:
        self._device, self._at = device, 0.0

    def record(self, stream: object) -> None:
        self._at = perf_counter()

    def synchronize(self) -> None:
        self._device.waits.append("event")

    def elapsed_time(self, end: _Event) -> float:
        return (end._at - self._at) * 1e3


class _Generator(torch.Generator):
    """Draws on the CPU, and knows for which device."""

    drawn_for: torch.device

    def __new__(cls, device: Any = "cpu") -> _Generator:
        made = super().__new__(cls, "cpu")
        made.drawn_for = torch.device(device)
        return made


def _copy(tensor: FakeTensor, memo: dict[int, Any]) -> Tensor:
    """`copy.deepcopy`: torch's own asks for the address."""
    copied = tensor.clone()
    memo[id(tensor)] = made = torch.nn.Parameter(copied) if isinstance(tensor, torch.nn.Parameter) else copied
    return made


class _Shadows(TorchDispatchMode):
    """Runs an operator of the device twice: on fakes, for devices and shapes, and on shadows, for values."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = tree_flatten((args, kwargs))[0]
        if not any(map(self._device.is_named, given)):
            with _disable_current_modes():
                return func(*args, **kwargs)
        if func not in WHOLE and func.namespace == "aten" and func._can_decompose():
            with self:  # the operators it is made of, each on its own: one of them may wait
                return func.decompose(*args, **kwargs)
        depends = self._note(func, args, kwargs)
        with _disable_current_modes():
            real = func(*tree_map(_on_host, args), **tree_map(_on_host, kwargs))
        if func.overloadpacket in (aten._to_copy, aten.copy_):
            return self._copied(func, args, kwargs, real)
        if not isinstance(real, Tensor | tuple | list):
            return real
        result = self._like(real) if depends else self._faked(func, args, kwargs, real)
        self._check(result)
        return result

    def _faked(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], real: Any) -> Any:
        """What torch's own rules for devices make of an operator; the values are `real`."""
        drawn = {name: None if name == "generator" else value for name, value in kwargs.items()}
        try:
            if func not in WHOLE:
                return _attach(func(*args, **drawn), real)
        except RuntimeError as error:  # decomposed in Python, under a guard of the device
            if "not linked" not in str(error) or func._schema.is_mutable:
                raise
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        assert all(map(self._device.holds, filter(Tensor.dim, tensors))), f"{func} mixes devices"
        return self._like(real)

    def _copied(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], real: Tensor) -> Tensor:
        """A copy, from one device to another or within one."""
        if func.overloadpacket is aten.copy_:
            return args[0]  # type: ignore[no-any-return]
        target = kwargs.get("device") or args[0].device
        result = real if target.type == "cpu" else self._like(real)
        self._check(result)
        return result  # type: ignore[no-any-return]

    def _like(self, real: Any) -> Any:
        """Fakes of the shapes that the values have."""
        leaves, spec = tree_flatten(real)
        fakes = [
            torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=self._device.torch) for t in leaves
        ]
        return _attach(tree_unflatten(fakes, spec), real)

    def _check(self, result: Any) -> None:
        if self._device.torch.type == "mps":
            for tensor in filter(self._device.holds, tree_flatten(result)[0]):
                assert tensor.dtype != torch.float64, "Apple devices have no float64"

    def _note(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Notes a wait; true when the shape of the result depends on values."""
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        here, packet = any(map(self._device.holds, tensors)), func.overloadpacket
        waits = self._device.waits
        if here and packet is aten._local_scalar_dense:
            waits.append("item")
        if packet in (aten._to_copy, aten.copy_):
            source = args[0 if packet is aten._to_copy else 1].device
            target = kwargs.get("device", source) if packet is aten._to_copy else args[0].device
            if (target or source).type != source.type:
                waits.append(f"copy to {target.type}")
        if here and packet is aten._grouped_mm and not self._groups(args[0]):
            waits.append("grouped_mm without a kernel")
        if packet in (aten.index, aten.index_put_) and not all(map(self._device.holds, tensors)):
            waits.append("index from the host")
        depends = packet in DATA_DEPENDENT or _counted(func, kwargs) or _masked(packet, args)
        if here and depends:
            waits.append(packet.__name__)
        return depends

    def _groups(self, x: Tensor) -> bool:
        return x.dtype == torch.bfloat16 and self._device.capability[0] in NATIVE_GROUPED_MM


def _counted(func: Any, kwargs: dict[str, Any]) -> bool:
    return func is aten.repeat_interleave.Tensor and kwargs.get("output_size") is None


def _masked(packet: Any, args: tuple[Any, ...]) -> bool:
    if packet is not aten.index:
        return False
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])


def _on_host(value: Any) -> Any:
    return torch.device("cpu") if isinstance(value, torch.device) else _value(value)


def _value(value: Any) -> Any:
    return values(value) if isinstance(value, Tensor) else value


def _attach(fakes: Any, reals: Any) -> Any:
    for fake, real in zip(tree_flatten(fakes)[0], tree_flatten(reals)[0], strict=True):
        if isinstance(fake, FakeTensor):
            assert fake.shape == real.shape, f"the device has {fake.shape}, the host {real.shape}"
            assert fake.dtype == real.dtype, f"the device has {fake.dtype}, the host {real.dtype}"
            fake.shadow = real  # type: ignore[attr-defined]
    return fakes


class _Python(TorchFunctionMode):
    """Sends what Python's binding would do under a guard of the device straight to operators."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        _check_generator(args, kwargs)
        if func in _REPLACED and isinstance(args[0], Tensor):
            return _REPLACED[func](*args, **kwargs)
        if func in _READ and isinstance(args[0], FakeTensor):
            assert func is not Tensor.numpy, "numpy reads a tensor on the device"
            self._device.waits.append(func.__name__.strip("_"))
            with _disable_current_modes():
                return func(values(args[0]), *args[1:], **kwargs)
        return func(*args, **kwargs)


def _check_generator(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A generator of another device is refused."""
    generator = kwargs.get("generator")
    if isinstance(generator, _Generator):
        tensors = [value.device for value in args if isinstance(value, Tensor)]
        wanted = torch.device(kwargs.get("device") or next(iter(tensors), "cpu")).type
        has = generator.drawn_for.type
        assert has == wanted, f"a generator for {has} draws for {wanted}"


def _to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`Tensor.to` in its three spellings."""
    device, dtype = kwargs.get("device"), kwargs.get("dtype")
    for value in args:
        if isinstance(value, Tensor):
            device, dtype = value.device, value.dtype
        elif isinstance(value, torch.dtype):
            dtype = value
        elif isinstance(value, str | torch.device):
            device = value
    device = tensor.device if device is None else torch.device(device)
    dtype = dtype or tensor.dtype
    if device.type == tensor.device.type and dtype == tensor.dtype and not kwargs.get("copy"):
        return tensor
    moved = device if device.type != tensor.device.type else None
    result: Tensor = aten._to_copy(tensor, dtype=dtype, device=moved)
    return result


def _getitem(tensor: Tensor, index: Any) -> Tensor:
    """`tensor[index]` by operators. Views where Python's are views."""
    if not isinstance(tensor, FakeTensor):
        return Tensor.__getitem__(tensor, index)
    view, advanced = _view(tensor, index)
    return aten.index(view, advanced) if any(one is not None for one in advanced) else view  # type: ignore[no-any-return]


def _setitem(tensor: Tensor, index: Any, value: Any) -> None:
    if not isinstance(tensor, FakeTensor):
        Tensor.__setitem__(tensor, index, value)
        return
    view, advanced = _view(tensor, index)
    if not isinstance(value, Tensor):
        value = torch.full((), value, dtype=tensor.dtype, device=tensor.device)
    if any(one is not None for one in advanced):
        aten.index_put_(view, advanced, value)
    else:
        aten.copy_(view, value)


def _view(tensor: Tensor, index: Any) -> tuple[Tensor, list[Tensor | None]]:
    """The view that slices, numbers and None make; a tensor or None to index each of its dimensions by."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(part is Ellipsis for part in parts):
        place = next(i for i, part in enumerate(parts) if part is Ellipsis)
        used = sum(part is not None and part is not Ellipsis for part in parts)
        parts[place : place + 1] = [slice(None)] * (tensor.dim() - used)
    view, advanced = tensor, list[Tensor | None]()
    for part in parts:
        dim = len(advanced)
        if isinstance(part, Tensor):
            advanced += [part] + [None] * (part.dim() - 1 if part.dtype == torch.bool else 0)
        elif isinstance(part, int):
            view = aten.select(view, dim, part)
        elif part is None:
            view = aten.unsqueeze(view, dim)
            advanced.append(None)
        else:
            view = aten.slice(view, dim, part.start, part.stop, part.step or 1)
            advanced.append(None)
    return view, advanced


def _set_data(tensor: Tensor, value: Tensor) -> None:
    Tensor.data.__set__(tensor, value)  # type: ignore[attr-defined]
    if isinstance(tensor, FakeTensor):
        tensor.shadow = values(value)  # type: ignore[attr-defined]


_REPLACED: dict[Any, Callable[..., Any]] = {
    Tensor.__getitem__: _getitem,
    Tensor.__setitem__: _setitem,
    Tensor.to: _to,
    Tensor.cpu: lambda tensor: _to(tensor, "cpu"),
    Tensor.data.__set__: _set_data,  # type: ignore[attr-defined]
    Tensor.nonzero: lambda tensor: aten.nonzero(tensor),
}
_READ = {
    Tensor.item,
    Tensor.tolist,
    Tensor.numpy,
    Tensor.__int__,
    Tensor.__float__,
    Tensor.__bool__,
    Tensor.__index__,
    Tensor.__array__,
}
