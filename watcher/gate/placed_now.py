"""Places `/etc/resolv.conf` for a command that has attached containers, and waits for that."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from handlers import resolv_conf
from handlers.resolv_conf import Gone
from watcher.facts.kinds import Attached
from watcher.gate.resolv_confs import SLOW
from watcher.model.errors import WatcherError, quoted

if TYPE_CHECKING:
    from watcher.facts.kinds import Fact
    from watcher.model.container import Process
    from watcher.reconcile.reconciler import Reconciler

    type _Due = tuple[str, Process, resolv_conf.ResolvConf]

PATIENCE: Final = 10.0
"""Seconds until the next one is there; after that, a file system does not answer."""


class PlacedNow:
    """Collects who is attached from now on.

    Args:
        reconciler: attaches them.
    """

    def __init__(self, reconciler: Reconciler) -> None:
        self._present = reconciler.present
        self._due: list[_Due] = []
        self._reasons: list[str] = []
        self._done = threading.Semaphore(0)
        reconciler.subscribe(self._heard)

    def place(self) -> list[str]:
        """Place what they get; returns why some get none, a line each."""
        if self._due:
            threading.Thread(target=self._place, daemon=True).start()
            for id_, _, _ in self._due:
                if not self._done.acquire(timeout=PATIENCE):
                    self._reasons.append(f"container {quoted(id_)}: {SLOW}")
                    break
        return self._reasons

    def _heard(self, fact: Fact) -> None:
        if isinstance(fact, Attached):
            for member in fact.members:
                file = self._present.resolv_conf_for(fact.sandbox, member)
                if file is not None:
                    self._due.append((member.id, member.init, file))

    def _place(self) -> None:
        for id_, init, file in self._due:
            try:
                resolv_conf.place(init, file)
            except Gone:
                pass
            except WatcherError as error:
                self._reasons.append(f"container {quoted(id_)}: {error}")
            finally:
                self._done.release()
