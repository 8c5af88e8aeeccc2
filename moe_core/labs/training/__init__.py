"""Experiments that train: one file each, all through one loop (`loop.py`), listed in `table.py`."""
