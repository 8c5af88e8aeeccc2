"""Fixtures of the pretended devices."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import pytest

from tests.gpu.fake_device import Device, pretend

Pretend = Callable[..., AbstractContextManager[Device]]


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """`with pretended(capability=(8, 0)) as device: ...`"""
    return partial(pretend, monkeypatch)
