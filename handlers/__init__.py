"""handlers: each handler owns one kind of thing on the host, and no other code touches it.

A handler has three verbs: `appear(sandbox)`, `vanish(sandbox)` and `sync(sandboxes)`. Each verb is
idempotent. A handler decides nothing: :mod:`watcher.reconcile` decides what should be there.
"""
