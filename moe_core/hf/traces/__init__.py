"""Traces: routing that somebody else recorded, brought to one shape. Read in pieces; nothing is guessed.

`read` names the format, says what it took from the file, and yields its choices. What a file leaves open is
asked for: which layers have experts, how many experts a token takes, what stands for "nothing recorded".
"""

from moe_core.hf.traces.formats import read
from moe_core.hf.traces.shape import SCHEMA, Known, Trace
from moe_core.hf.traces.write import KINDS, write

__all__ = ["KINDS", "SCHEMA", "Known", "Trace", "read", "write"]
