"""handlers: each owns one kind of thing on the host and is the only code that touches it.

A handler has three verbs, the project's own words: `appear(sandbox)`, `vanish(sandbox)` and
`sync(sandboxes)`. Each is idempotent. None decides anything: what should be is told to them by
:mod:`watcher.reconcile.reconciler`.
"""
