"""The allocator keeps pages: a block freed and taken again faults nothing in."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from moe_core.runs.allocator import keep_pages
if {keep}: assert keep_pages()
def churn():
    for _ in range(20): torch.zeros(8, 2**20)
churn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
churn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(keep=keep)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc takes the advice")
def test_freed_blocks_stay():
    assert faults(keep=True) < faults(keep=False) / 10
