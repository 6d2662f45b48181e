"""The metrics for Prometheus, from the events socket: `watcher metrics`.

One picture of the socket becomes families of the client library (:mod:`.families`) and tables of
series, one a link (:mod:`.links`); :mod:`.text` writes both. :mod:`.source` takes the pictures, at
most one a second, and :mod:`.server` serves the text. Nothing here reads the lease store or asks
the kernel. docs/metrics.md tells every family.
"""
