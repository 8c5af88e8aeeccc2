"""Experts on two ranks equal the whole layer on one: outputs and every gradient, however tokens are spread."""

import pytest

from moe_core.dist.launch import launch
from tests.dist.tasks import KINDS


@pytest.fixture(scope="module")
def differences() -> list[dict[str, dict[str, float]]]:
    return launch("tests.dist.tasks:compared", ranks=2, arguments={})


@pytest.mark.parametrize("kind", [*KINDS, "one rank gets all"])
def test_two_ranks_equal_one_device(differences, kind):
    for rank, found in enumerate(differences):
        assert max(found[kind].values()) < 1e-12, (rank, found[kind])
