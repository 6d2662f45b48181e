"""The checks of `watcher check`. None of them changes anything on the host.

`registry` lists the checks, and `check` has their types. A check that needs an experiment makes it
in a child process with namespaces of its own (`trial`). `filters` simulates the host's packet
filters.
"""
