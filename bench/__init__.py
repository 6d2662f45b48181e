"""bench: what this program costs, beside the kernel's own price and beside its peers.

`python -m bench` measures, prints tables, and writes `bench/results/*.json`, `docs/performance.md`
and its pictures. Nothing here is part of the program.
"""
