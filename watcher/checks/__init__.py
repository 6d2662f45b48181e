"""What `watcher check` looks at, a module each; none of them changes anything on the host.

Each has one function that yields :class:`watcher.checks.finding.Finding`. What can only be told by
trying is tried by :mod:`watcher.checks.kernel`, in a child process with namespaces of its own.
"""
