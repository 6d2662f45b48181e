"""watcher: gives every runc container its network when it appears, without a hook.

This package observes and decides; it writes nothing to the kernel. What acts on the host is in
:mod:`handlers`.
"""

__version__ = "0.2.0.dev0"
