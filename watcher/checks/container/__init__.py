"""The checks of `watcher check CONTAINER`. They may send probes, and change nothing.

`registry` lists them. `gathered` has what they judge by, `inside` looks into the sandbox's
namespace, and `packets` makes the packets that the host's filters are tried with.
"""
