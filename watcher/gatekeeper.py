"""The gate as the service uses it: opened if it may be, its questions answered by reconcile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from handlers import rootmount
from watcher import held
from watcher.errors import WatcherError, said
from watcher.files import Unreadable
from watcher.gate import Gate, Hold
from watcher.model import Process

if TYPE_CHECKING:
    from watcher import config
    from watcher.log import Log
    from watcher.reconcile import Reconciler

REMEDY = 'give the service CAP_SYS_ADMIN, or set mode = "off" in [gate]'


class Gatekeeper:
    """Holds runc until reconcile has given its container a network.

    Args:
        settings: `[gate]`.
        loop: the event loop in whose thread reconcile is used.
        reconciler: what is asked.
        watch: called with root, id and init of a container that is let in.
        lost: called when a container may have gone by unseen.
        log: where refusals and late answers are told.
    """

    def __init__(
        self,
        settings: config.Gate,
        loop: asyncio.AbstractEventLoop,
        reconciler: Reconciler,
        *,
        watch: Callable[[str, str, Process], None],
        lost: Callable[[], object],
        log: Log,
    ) -> None:
        self._settings = settings
        self._loop = loop
        self._reconciler = reconciler
        self._watch = watch
        self._lost = lost
        self._log = log
        self._gate: Gate | None = None
        self._roots: list[str] = []

    @property
    def open(self) -> bool:
        """Whether runc is held."""
        return self._gate is not None

    def start(self, roots: list[str]) -> None:
        """Hold the runcs of `roots` from now on, as far as the configuration and the kernel allow.

        Raises:
            WatcherError: it is required and cannot be.
        """
        if self._settings.mode == "off":
            self._warn("the configuration turns it off", 'set mode = "auto" in [gate]')
            for root in roots:  # one that was killed may have held runc there
                with suppress(OSError):
                    rootmount.take_back(root)
            return
        try:
            self._gate = Gate(
                timeout=self._settings.timeout,
                on_timeout=self._settings.on_timeout == "allow",
                decide=lambda hold: self._hand_over(self._decide, hold),
                expired=lambda hold: self._hand_over(self._expired, hold),
                overflow=lambda: self._hand_over(self._lost),
                failed=lambda error: self._hand_over(self._failed, error),
            )
            for root in roots:
                self.mark(root)
        except (OSError, WatcherError) as error:
            self.stop()
            if self._settings.mode == "required":
                raise WatcherError(f"runc cannot be held: {said(error)}", REMEDY) from error
            self._warn(said(error), REMEDY)

    def mark(self, root: str) -> None:
        """Hold the runcs of `root`; again after it was removed and made anew."""
        if self._gate is None:
            return
        if root not in self._roots:
            self._roots.append(root)
        rootmount.hold(root)
        self._gate.mark(root)

    def stop(self) -> None:
        """Let everybody go, and take back what the roots were made."""
        if self._gate is None:
            return
        self._gate.close()
        self._gate = None
        for root in self._roots:
            rootmount.take_back(root)

    def _hand_over[*A](self, callback: Callable[[*A], object], *args: *A) -> None:
        """From the gate's thread to the loop's."""
        self._loop.call_soon_threadsafe(callback, *args)

    def _decide(self, hold: Hold) -> None:
        """Give the held container its network, and let it start; or have runc fail."""
        if time.monotonic() >= hold.deadline and self._settings.on_timeout == "deny":
            return  # it has been answered, and runc gives up
        try:
            container = held.observe(hold)
        except held.AsksNothing as error:
            self._refuse(hold, error, denied=False)  # `state.json` tells what it is in a moment
            return
        except Unreadable as error:
            self._refuse(hold, error)
            return
        if not container.alive:
            hold.answer(True)
            return
        try:
            self._reconciler.admit(container)
        except (WatcherError, OSError) as error:
            self._refuse(hold, error)
            return
        except BaseException:
            hold.answer(True)  # nobody waits for a defect of ours
            raise
        hold.answer(True)
        self._reconciler.tell()
        self._watch(hold.root, hold.id, hold.init)

    def _refuse(self, hold: Hold, error: Exception, *, denied: bool | None = None) -> None:
        if denied is None:
            denied = self._settings.on_invalid == "deny"
        try:
            self._reconciler.refuse(hold.root, hold.id, hold.init, error, denied=denied)
        finally:
            hold.answer(not denied)

    def _expired(self, hold: Hold) -> None:
        verdict = self._settings.on_timeout
        self._log.error(
            "held too long", container=hold.id, root=hold.root, timeout=self._settings.timeout,
            verdict=verdict, remedy="see what the host was busy with, or raise gate.timeout",
        )  # fmt: skip

    def _failed(self, error: Exception) -> None:
        if self._gate is None or self._gate.alive:
            self._log.error("gate", error=said(error))
            return
        self._log.error("the gate has ended, and is opened again", error=said(error))
        roots = list(self._roots)
        self.stop()
        self.start(roots)
        self._lost()

    def _warn(self, why: str, remedy: str) -> None:
        self._log.warning(
            "no gate: a container's first instructions may run before it has its network",
            why=why, remedy=remedy,
        )  # fmt: skip
