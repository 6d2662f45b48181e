"""The flows that answers begin in the place of flows that were ended.

An answer that is on its way when its flow ends begins a flow of its own, the other way round. Who
asked is still answered by the wrong end then, for as long as he asks. So whoever ends a flow for
the sake of ports or rules looks for its successor a moment later.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import batched
from typing import Final

from handlers.kernel import flows
from handlers.kernel.netlink import NETLINK_NETFILTER, Netlink

_LOOKS: Final = 3
"""How often to look in one place, as long as there is such a flow: the end of each may meet an
answer. But a sandbox may make them as fast as they end."""


class Successors:
    """Where to look, by the requests of :func:`flows.successor`. It belongs to who ends flows."""

    def __init__(self) -> None:
        self._looks_left: dict[bytes, int] = {}

    def __bool__(self) -> bool:
        return bool(self._looks_left)

    def look_for(self, requests: Iterable[bytes]) -> None:
        """Look in these places the next time."""
        self._looks_left.update(dict.fromkeys(requests, _LOOKS))

    def end(self) -> None:
        """Look in each place, and end the flow there if it began the other way round.

        Raises:
            OSError: the kernel refused; the places are still to be looked in.
        """
        if not self._looks_left:
            return
        turned: dict[bytes, int] = {}
        with Netlink(NETLINK_NETFILTER) as netlink:
            for requests in batched(self._looks_left, flows.AT_ONCE):
                ending = {
                    request: body
                    for request, body in zip(requests, netlink.answers(requests), strict=True)
                    if body is not None and _is_turned(body, request)
                }
                flows.end(netlink, [flows.deletion(body) for body in ending.values()])
                turned.update((request, self._looks_left[request] - 1) for request in ending)
        self._looks_left = {request: left for request, left in turned.items() if left}


def _is_turned(body: memoryview, request: bytes) -> bool:
    """Whether the flow that answers a `request` began with an answer.

    One that began as the flow before did was made by the rules of now.
    """
    return flows.successor(body) != request
