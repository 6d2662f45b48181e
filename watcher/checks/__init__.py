"""The checks of `watcher check`. None of them changes anything on the host.

`registry` lists the checks, and `check` has their types. A check that has to try something does so
in a child process with namespaces of its own (`trial`). `filters` simulates the packet filters of
the host.
"""
