"""Benchmarks. To be run as modules: threads are then chosen before torch is imported."""

from moe_core import threads

threads.prepare()
