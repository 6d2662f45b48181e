"""The files of the locks, and how long a reader waits for a writer."""

from typing import Final

WRITERS: Final = "lock"
"""The lock of a process while it changes the host or the lease store."""

SERVICE: Final = "service.lock"
"""The lock of a service as long as it runs.

A process that has the writers' lock may check whether this one is free, and rely on the answer: a
starting service mounts its roots again after it had the writers' lock.
"""

PATIENCE: Final = 1.0
"""Seconds that a reader waits for a writer; a writer needs milliseconds for one container."""
