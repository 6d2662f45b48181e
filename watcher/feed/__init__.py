"""The feed: what happens, as lines of JSON, for readers outside the service's process.

The service writes the lines of :mod:`.lines` to one process, the broker (:mod:`watcher.observe`),
which serves every reader of `/run/watcher/events.sock`. There is a broker only while there are
readers. docs/events.md describes the lines.

:mod:`.feed` takes facts, and events of commands (:mod:`.from_commands`). :mod:`.events` makes lines
of facts, and :mod:`.records` of what the lease store has. :mod:`.to_broker` sends them by an
:mod:`.outlet` to the broker, which :mod:`.process` starts. :mod:`.history` keeps events in files.
"""
