"""Judges answers, has the firewall open their addresses together, and tells what is new."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from handlers.kernel.netlink import Netlink
from watcher.answers.judge import HOST_NAME, Judge, Verdict
from watcher.facts.kinds import Opened
from watcher.model.errors import WatcherError, message_of
from watcher.model.seldom import Seldom

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from handlers.host import Host
    from watcher.answers.protocol import Told
    from watcher.facts.publisher import Publisher
    from watcher.model.policy.opening import Opening
    from watcher.reconcile.context import Context
    from watcher.reconcile.reconciler import Reconciler

_TIDY: Final = 30.0
"""Seconds between two looks at what is open no more."""

_OPENED_AGAIN, _OPENED_OF_EACH, _OPENED_AT_MOST = 60.0, 60, 1 << 18
"""Seconds until the same opening is told again; events of one sandbox and of all in that time."""


class Opener:
    """See the module's docstring.

    Args:
        loop: the event loop in whose thread it is used.
        reconciler: has the lock, the store and the host.
        facts: is told what was opened.
        rejected: is told who has asked for a name in none of its lists, and for which.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reconciler: Reconciler,
        facts: Publisher,
        rejected: Callable[[bytes, str], object],
    ) -> None:
        self._loop = loop
        self._reconciler = reconciler
        self._facts = facts
        self._rejected = rejected
        self._netlink = Netlink()
        self._tidying: asyncio.TimerHandle | None = None
        self._opened = Seldom(_OPENED_AGAIN, _OPENED_OF_EACH, _OPENED_AT_MOST)
        self._judged_in: Context | None = None
        self._judge: Judge

    def close(self) -> None:
        """Tidy no more; what is open stays open."""
        if self._tidying is not None:
            self._tidying.cancel()
        self._netlink.close()

    def tidy(self) -> None:
        """Have the firewall know what is open, also by an earlier service, and forget the rest."""
        self._tidying = None
        try:
            with self._reconciler.changing() as (context, _):
                context.host.firewall.opened.read()
                left = context.host.firewall.opened.tidy()
        except (WatcherError, OSError):
            left = True
        if left:
            self._tidying = self._loop.call_later(_TIDY, self.tidy)

    def open(self, context: Context, some: Sequence[Told]) -> list[str]:
        """Open what `some` may open; returns why each must not leave, or nothing.

        Raises:
            WatcherError: the lease store cannot be read.
            OSError: the kernel does not say what addresses the host has.
        """
        if context is not self._judged_in:
            self._judged_in, self._judge = context, Judge(context, self._netlink)
        return self._open(context.host, [self._verdict(told) for told in some])

    def _verdict(self, told: Told) -> Verdict:
        """What becomes of it; a question that was rejected is told of, and opens nothing."""
        if told.rejected:
            if self._judge.sandbox(told) is not None and HOST_NAME.fullmatch(told.rejected):
                self._rejected(ip_address(told.sender).packed, told.rejected)
        elif told.number is not None:
            return self._judge.judge(told)
        return Verdict(None)

    def _open(self, host: Host, judged: Sequence[Verdict]) -> list[str]:
        """Open it together; if that fails, each answer on its own. Returns why each failed."""
        openings = [one for verdict in judged for one in verdict.openings]
        if openings and self._tidying is None:
            self._tidying = self._loop.call_later(_TIDY, self.tidy)
        try:
            new = host.firewall.open(openings) if openings else []
        except OSError as error:
            if len(judged) > 1:
                return [refused for one in judged for refused in self._open(host, [one])]
            return [message_of(error)]
        self._tell(judged, new)
        return [verdict.refused for verdict in judged]

    def _tell(self, judged: Sequence[Verdict], new: Sequence[Opening]) -> None:
        """Publish what is open that was not before."""
        if not new:
            return
        fresh = {(one.number, one.name, one.address) for one in new}
        for verdict in judged:
            mine = [o for o in verdict.openings if (o.number, o.name, o.address) in fresh]
            fresh.difference_update((o.number, o.name, o.address) for o in mine)
            sandbox = verdict.sandbox
            if mine and sandbox is not None:
                texts = tuple(str(one.address) for one in mine)
                entry = f"{mine[0].name} {' '.join(texts)}"
                if self._opened.passes(sandbox.key, entry, self._loop.time()):
                    self._facts.publish(Opened(sandbox, mine[0].name, texts))
