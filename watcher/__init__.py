"""watcher: gives every runc container its network when it appears, without a hook.

This package observes and decides. It writes nothing to the kernel; :mod:`handlers` does.
"""

__version__ = "0.2.0.dev0"
