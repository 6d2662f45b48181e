"""What `watcher check` looks at; nothing here changes anything on the host.

`registry` lists the checks, and `check` says what one is. What can only be told by trying is tried
in a child process with namespaces of its own (`trial`). `filters` simulates the packet filters of
the host.
"""
