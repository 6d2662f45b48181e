"""bench: measures what this program costs, compared with the kernel alone and with its peers.

`python -m bench` measures, prints tables, and writes `bench/results/*.json`, `docs/performance.md`
and its pictures. Nothing here is part of the program.
"""
