"""Whether this host can hold containers to limits: what the kernel lacks, and the log group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from handlers.firewall import elements, ruleset
from handlers.kernel import nflog
from handlers.kernel.nft import Nft, NftError
from handlers.networks import driver_of
from watcher.checks.check import Finding, Subject, fail, ok, warn
from watcher.checks.trial import in_child, refused
from watcher.containers.sockets import holders
from watcher.locks.serving import serving
from watcher.model.policy.limits import RATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from watcher.config.settings import Config
    from watcher.model.network import Network

_PARTS: Final = {
    "sets of concatenated ranges (Linux 5.6)": (
        "set s { type ipv4_addr . inet_service; flags interval; }"
    ),
    "CONFIG_NFT_REJECT_INET, in prerouting (Linux 5.9)": (
        "chain c { type filter hook prerouting priority mangle - 10;"
        " reject with icmpx admin-prohibited; }"
    ),
    "CONFIG_NFT_LIMIT": "chain c { limit rate 1/second accept; }",
    "several expressions in an element of a set (Linux 5.11)": (
        "set s { type ipv4_addr; flags dynamic; size 9; counter; limit rate 1/second; }"
    ),
    "CONFIG_NFT_CONNLIMIT": (
        "set s { type ipv4_addr; flags dynamic; size 9; }\n"
        "chain c { add @s { ip saddr ct count over 9 } drop; }"
    ),
}
"""What the rules of limits need of the kernel, each with rules that need only that."""

_LOG_REMEDY: Final = "load it, e.g. `modprobe nfnetlink_log`, or set log_group = 0 in [firewall]"


def findings(subject: Subject) -> Iterator[Finding]:
    """What limits would lack on this host."""
    config = subject.config
    networks = list(subject.networks.values())
    used = uses_limits(config, networks)
    lacking = in_child(lambda: list(_trial(networks, used=used)), "limits")
    yield from lacking
    log = list(_log_group(config.firewall.log_group))
    yield from log
    if not lacking and not log:
        yield ok("the kernel has what limits need")


def uses_limits(config: Config, networks: Iterable[Network]) -> bool:
    """Whether the configuration limits anything."""
    lists = any(network.policed for network in networks)
    return lists or any(has_any(config, networks, key) for key in (*RATES, "connections"))


def has_any(config: Config, networks: Iterable[Network], key: str) -> bool:
    """Whether any network or root has a number as `key`, so that who asks for none is limited."""
    each = (*networks, *(root.limits for root in config.roots))
    return any(getattr(one, key) is not None for one in each)


def _trial(networks: Sequence[Network], *, used: bool) -> Iterator[Finding]:
    """Make the table with all rules of limits, in a network namespace that ends with it."""
    os.unshare(os.CLONE_NEWNET)
    nft = Nft()
    blocks = frozenset(elements.BLOCKS.values())
    try:
        nft.run(ruleset.base(map(driver_of, networks), ruleset.Parts(blocks, mark=1)))
    except NftError as error:
        missing = refused(nft, _PARTS)
        want = f" for want of {missing}" if missing else ""
        whose = "" if used else ", so containers that ask for some are refused"
        yield (fail if used else warn)(
            f"nftables refuses the rules of limits{want}: {error}{whose}",
            "run a kernel that has it",
        )


def _log_group(group: int) -> Iterator[Finding]:
    """What keeps the service from hearing of rejected packets."""
    if not group:
        return
    if not nflog.is_there():
        yield warn("the kernel has no NFLOG: what is rejected makes no events", _LOG_REMEDY)
        return
    inode = nflog.reader(group)
    if not inode:
        return
    holder = holders({inode}).get(inode, "")
    service = serving()
    is_ours = service is not None and holder.rpartition(" ")[2] in ("", service.pid)
    if not is_ours:
        yield warn(
            f"{holder or 'another program'} reads log group {group}: what is rejected makes no"
            " events",
            "stop it, or write the number of another group as log_group in [firewall]",
        )
