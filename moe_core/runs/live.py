"""Live: how many bytes of tensors are alive at the worst moment of a piece of work, on any device.

Resident memory cannot tell: allocators keep pages. Here every tensor that an operation returns is
counted when it appears and forgotten when the last reference goes. Ignored: what an operation
allocates and frees inside itself (workspaces), rounding by the allocator.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """`with LiveBytes(known) as live: ...` and then `live.peak`: bytes that appeared inside, at most.

    known: tensors that exist already (weights, inputs) and do not count.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        identity = storage._cdata
        if identity in self._seen:
            return
        self._seen.add(identity)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, identity, storage.nbytes())

    def _forget(self, identity: int, nbytes: int) -> None:
        self._seen.discard(identity)
        self.now -= nbytes
