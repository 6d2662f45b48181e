"""Checks whether this kernel can hold an interface to a rate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from handlers.bandwidth.rates import Rates
from handlers.bandwidth.shapers import NoShaper, put
from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink
from watcher.checks.check import Finding, Subject, fail, ok, warn
from watcher.checks.limits import has_any
from watcher.checks.trial import in_child
from watcher.model.errors import SHAPER_REMEDY, message_of
from watcher.model.policy.limits import RATES

_LINK: Final = "netnsv0-1"
_RATE: Final = 10**6


def findings(subject: Subject) -> Iterator[Finding]:
    """What the kernel lacks: wrong if the configuration limits bandwidth, else worth knowing."""
    config, networks = subject.config, subject.networks.values()
    needed = any(has_any(config, networks, key) for key in RATES)
    yield from in_child(lambda: [_trial(needed=needed)], "bandwidth")


def _trial(*, needed: bool) -> Finding:
    os.unshare(os.CLONE_NEWNET)
    with Netlink() as netlink:
        netlink.send([rtnl.bridge(_LINK, mac="02:42:00:00:00:01", mtu=1500)])
        try:
            put(netlink, _LINK, Rates(_RATE, _RATE), _LINK)
        except NoShaper as error:
            return (fail if needed else warn)(message_of(error), SHAPER_REMEDY)
    return ok("interfaces can be held to a bandwidth")
