"""Reads `io.watcher.sysctl`, a JSON object of kernel settings for a container's own network.

Only settings that each network namespace has for itself are accepted, and the kernel is asked again
when they are set (:mod:`handlers.link.sysctls`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

from watcher.model.errors import BadValue, quoted, shortened
from watcher.model.naming import SWAPPED
from watcher.model.request import Sysctl

MAX: Final = 64
"""The most settings of one container; each costs a look-up in `/proc/sys`."""

MAX_LENGTH: Final = 4096
"""The most characters of the annotation."""

_EXAMPLE: Final = 'write an object such as {"net.ipv4.conf.eth0.arp_notify": "1"}'
_NAME_REMEDY: Final = 'write a name such as "net.ipv4.conf.eth0.arp_notify"'
_PART: Final = re.compile(r"[\w.:@+-]+", re.ASCII)
_VALUE: Final = re.compile(r"[\t -~]+")

WHOLE_HOST: Final = frozenset(
    (
        "ipv4/tcp_congestion_control",
        "ipv4/tcp_allowed_congestion_control",
        "netfilter/nf_hooks_lwtunnel",
        "netfilter/nf_conntrack_buckets",
        "netfilter/nf_conntrack_expect_max",
        "netfilter/nf_conntrack_max",
        "nf_conntrack_max",
    )
)
"""Settings that every namespace shows, but that change the whole host.

The choice of a congestion control loads its module and allows it to everybody
(`tcp_set_default_congestion_control` in `net/ipv4/tcp_cong.c`). `nf_hooks_lwtunnel` is one switch
for all (`net/netfilter/nf_hooks_lwtunnel.c`). The others, and those of IPVS, could be written
before Linux 5.13. Everything else that is global is missing in other namespaces, or read only there
(`ensure_safe_net_sysctl` in `net/sysctl_net.c`).
"""


def parse_sysctls(value: str) -> tuple[Sysctl, ...]:
    """The settings of the annotation's `value`, in its order.

    Raises:
        BadValue: it is no object of strings, has a name twice, or one that is not below `net`.
    """
    if len(value) > MAX_LENGTH:
        raise BadValue(f"{len(value)} characters, more than {MAX_LENGTH}", "write fewer")
    try:
        members = json.loads(value, object_pairs_hook=_Members)
    except (ValueError, RecursionError) as error:
        raise BadValue(f"not JSON: {shortened(error)}", _EXAMPLE) from None
    if not isinstance(members, _Members):
        raise BadValue("not a JSON object", _EXAMPLE)
    if len(members) > MAX:
        raise BadValue(f"{len(members)} settings, more than {MAX}", "write fewer")
    found: dict[str, str] = {}
    for name, wanted in members:
        path = _path(name)
        if path in found:
            raise BadValue(f"{quoted(name)} is repeated", "write each setting once")
        found[path] = _wanted(name, wanted)
    return tuple(found.items())


def of_bundle(settings: Sequence[Sysctl]) -> tuple[Sysctl, ...]:
    """The `net.*` `settings` of a bundle's `linux.sysctl`, by their paths below `/proc/sys/net`.

    Raises:
        BadValue: there are too many, or one is not a setting of a network namespace.
    """
    if len(settings) > MAX:
        raise BadValue(f"{len(settings)} settings, more than {MAX}", "write fewer")
    return tuple(
        (_path(name, early=True), _wanted(name, value.rstrip("\n"))) for name, value in settings
    )


class _Members(list[tuple[str, object]]):
    """An object's members in order, with repetitions."""


def _path(name: str, *, early: bool = False) -> str:
    """The path below `/proc/sys/net` of the setting `name`; `early`: of a bundle's `linux.sysctl`.

    As in sysctl(8) and sysctl.d(5), the first separator decides: after a dot, dots separate and a
    slash is a dot of an interface's name; after a slash, slashes separate.
    """
    first = next((character for character in name if character in "./"), "")
    parts = (name if first == "/" else name.translate(SWAPPED)).split("/")
    if parts[0] != "net" or len(parts) == 1:
        reason = f"{quoted(name)} is no setting of a network namespace"
        raise BadValue(reason, f"{_NAME_REMEDY}, and any other in linux.sysctl of its config.json")
    if any(part in (".", "..") or not _PART.fullmatch(part) for part in parts):
        raise BadValue(f"{quoted(name)} is no setting's name", _NAME_REMEDY)
    path = "/".join(parts[1:])
    if path in WHOLE_HOST or path.startswith("ipv4/vs/"):
        reason = f"{quoted(name)} would change the whole host"
        raise BadValue(reason, "set it on the host, or leave it out")
    if not early and path.startswith("ipv6/conf/") and path.endswith("/disable_ipv6"):
        reason = f"{quoted(name)} decides which addresses it gets, and so comes too late"
        raise BadValue(reason, "write it in linux.sysctl of its config.json")
    return path


def _wanted(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadValue(
            f"the value of {quoted(name)} is no string", 'write it in quotes, such as "1"'
        )
    if not _VALUE.fullmatch(value):
        raise BadValue(
            f"{quoted(name)} has the value {quoted(value)}, which no setting can have",
            "write printable ASCII",
        )
    return value
