"""Requests that make links, change them and delete them.

Sources: rtnetlink(7), `include/uapi/linux/if_link.h`, `net/core/rtnetlink.c` and
`drivers/net/veth.c` of the kernel.
"""

from __future__ import annotations

import struct
from functools import cache, lru_cache
from typing import Any, Final

from handlers.kernel import template
from handlers.kernel.messages import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    attribute,
    attributes,
    encode,
    request,
)
from handlers.kernel.netlink import IFF_UP
from handlers.kernel.rtnl.messages import ifinfmsg
from handlers.kernel.rtnl.numbers import (
    ADDR_GEN_MODE_NONE,
    DOOMED,
    IFI_SIZE,
    IFLA_ALT_IFNAME,
    IFLA_BR_MULTI_BOOLOPT,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_PROP_LIST,
    NLA_F_NESTED,
    NO_LL_LEARN,
    NOTHING,
    OURS,
    RTM_DELLINK,
    RTM_DELLINKPROP,
    RTM_NEWLINK,
)
from handlers.kernel.template import Template
from watcher.model.alias import MAX_ALIAS

_NAMES: Final = 64
"""Of how many names requests are kept: those of the interfaces inside differ little."""


def veth(
    host_name: str,
    name: str,
    netns: int,
    *,
    master: int,
    host_mac: str,
    mac: str,
    mtu: int,
    host_mtu: int = 0,
) -> bytes:
    """Make a veth pair: `host_name` here, `name` with the MAC `mac` in the namespace `netns`.

    The host end is on the bridge `master` (0: none), has a random MAC without `host_mac`, and the
    MTU `mtu` without `host_mtu`. Both ends have one queue. The default is one per processor, each
    with files in sysfs, but veth does not use them without XDP or GRO (`veth_xmit`): it has no lock
    to contend for.
    """
    values = {
        "host_name": host_name.encode(),
        "name": name.encode(),
        "netns": template.number(netns),
        "master": template.number(master),
        "mac": template.mac(mac),
    }
    if host_mac:
        values["host_mac"] = template.mac(host_mac)
    return _veth(mtu, host_mtu or mtu, bool(host_mac)).filled(**values)


@cache
def _veth(mtu: int, host_mtu: int, host_mac: bool) -> Template:
    common = [
        ["IFLA_GROUP", OURS],
        ["IFLA_NUM_TX_QUEUES", 1],
        ["IFLA_NUM_RX_QUEUES", 1],
    ]
    peer = ifinfmsg()
    peer["attrs"] = [
        ["IFLA_IFNAME", template.OTHER_NAME],
        ["IFLA_NET_NS_FD", template.OTHER_NUMBER],
        ["IFLA_ADDRESS", template.MAC],
        ["IFLA_MTU", mtu],
        *common,
    ]
    pair = ifinfmsg()
    pair["attrs"] = [
        ["IFLA_IFNAME", template.NAME],
        ["IFLA_MASTER", template.NUMBER],
        ["IFLA_MTU", host_mtu],
        *common,
        _linkinfo("veth", {"attrs": [["VETH_INFO_PEER", {"attrs": peer["attrs"]}]]}),
    ]
    marks = {
        "host_name": template.NAME.encode(),
        "name": template.OTHER_NAME.encode(),
        "netns": template.number(template.OTHER_NUMBER),
        "master": template.number(template.NUMBER),
        "mac": template.mac(template.MAC),
    }
    if host_mac:
        pair["attrs"].append(["IFLA_ADDRESS", template.OTHER_MAC])
        marks["host_mac"] = template.mac(template.OTHER_MAC)
    return Template(encode(pair, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL), **marks)


def bridge(name: str, *, mac: str, mtu: int) -> bytes:
    """Make a bridge `name` that keeps its MAC whatever is attached to it.

    Multicast snooping is off. With it, the kernel walks all ports for each port that comes up
    (`br_multicast_enable_port` in `net/bridge/br_multicast.c`); at a thousand ports that takes as
    long as the rest of an attach. Without a querier, the bridge floods either way.
    """
    message = ifinfmsg()
    message["flags"] = message["change"] = IFF_UP
    message["attrs"] = [
        ["IFLA_IFNAME", name],
        ["IFLA_ADDRESS", mac],
        ["IFLA_MTU", mtu],
        ["IFLA_GROUP", OURS],
        _linkinfo("bridge", {"attrs": [["IFLA_BR_MCAST_SNOOPING", 0]]}),
    ]
    return encode(message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL)


def learn_no_link_local(index: int) -> bytes:
    """Stop the bridge `index` from learning MACs from frames to 01:80:c2:00:00:0x.

    It learns from some of them before any filter, and forwards none. pyroute2 lacks this option.
    """
    data = attribute(IFLA_BR_MULTI_BOOLOPT, struct.pack("=II", NO_LL_LEARN, NO_LL_LEARN))
    info = attribute(IFLA_INFO_KIND, b"bridge\0") + attribute(IFLA_INFO_DATA, data)
    message = struct.pack("=BBHiII", 0, 0, 0, index, 0, 0) + attribute(IFLA_LINKINFO, info)
    return request(RTM_NEWLINK, message)


def learns_link_local(body: memoryview) -> bool:
    """Whether the bridge in `body`, an RTM_NEWLINK message, lacks :func:`learn_no_link_local`."""
    info = dict(attributes(body, IFI_SIZE)).get(IFLA_LINKINFO, NOTHING)
    data = dict(attributes(info, 0)).get(IFLA_INFO_DATA, NOTHING)
    options = dict(attributes(data, 0)).get(IFLA_BR_MULTI_BOOLOPT, NOTHING)
    return not int.from_bytes(options[:4], "little") & NO_LL_LEARN


def quiet(name: str, *, alias: str = "", up: bool = False) -> bytes:
    """Stop `name` from making an IPv6 address itself; also set its `alias`, and set it `up`.

    With IPv6, it must not be up before: the kernel makes the address when the interface comes up,
    before it reads this.
    """
    if not alias:
        return _quiet_without_alias(name, up)
    text = alias.encode()[:MAX_ALIAS]
    return _quiet(_alias_size(text), up).filled(name=name.encode(), alias=text)


@lru_cache(_NAMES)
def _quiet_without_alias(name: str, up: bool) -> bytes:
    return _quiet(0, up).filled(name=name.encode())


@cache
def _quiet(alias_size: int, up: bool) -> Template:
    message = ifinfmsg()
    if up:
        message["flags"] = message["change"] = IFF_UP
    message["attrs"] = [["IFLA_IFNAME", template.NAME], _no_link_local()]
    marks = {"name": template.NAME.encode()}
    if alias_size:
        alias = "\x03" * alias_size
        message["attrs"].append(["IFLA_IFALIAS", alias])
        marks["alias"] = alias.encode()
    return Template(encode(message, RTM_NEWLINK), **marks)


def _alias_size(text: bytes) -> int:
    """The size of the field for an alias, rounded up so that few templates are kept."""
    return min(-(-len(text) // 32) * 32, MAX_ALIAS)


def port(name: str, *, isolated: bool, flooded: bool, alias: str) -> bytes:
    """Configure the bridge port `name` and set it up.

    It makes no IPv6 address itself, because its traffic belongs to the bridge. A frame may leave
    through the port that it came in by (hairpin): with br_netfilter, which others may load, a
    sandbox's packets to its own published port are bridged, not routed. An `isolated` port
    exchanges frames only with ports that are not isolated. One that is not `flooded` gets frames to
    all and to groups from the host alone (`br_flood` in `net/bridge/br_forward.c`).
    """
    text = alias.encode()[:MAX_ALIAS]
    return _port(isolated, flooded, _alias_size(text)).filled(name=name.encode(), alias=text)


@cache
def _port(isolated: bool, flooded: bool, alias_size: int) -> Template:
    message = ifinfmsg()
    message["flags"] = message["change"] = IFF_UP
    data = [["IFLA_BRPORT_MODE", 1], ["IFLA_BRPORT_ISOLATED", int(isolated)]]
    data += [[f"IFLA_BRPORT_{to}_FLOOD", int(flooded)] for to in ("MCAST", "BCAST")]
    slave = [["IFLA_INFO_SLAVE_KIND", "bridge"], ["IFLA_INFO_SLAVE_DATA", {"attrs": data}]]
    alias = "\x03" * alias_size
    message["attrs"] = [
        ["IFLA_IFNAME", template.NAME],
        ["IFLA_IFALIAS", alias],
        ["IFLA_LINKINFO", {"attrs": slave}],
        _no_link_local(),
    ]
    return Template(encode(message, RTM_NEWLINK), name=template.NAME.encode(), alias=alias.encode())


@lru_cache(_NAMES)
def up(name: str) -> bytes:
    """Set the interface `name` up."""
    return _up().filled(name=name.encode())


@cache
def _up() -> Template:
    message = ifinfmsg()
    message["flags"] = message["change"] = IFF_UP
    message["attrs"] = [["IFLA_IFNAME", template.NAME]]
    return Template(encode(message, RTM_NEWLINK), name=template.NAME.encode())


def enslaved(name: str, master: int) -> bytes:
    """Make the interface `name` a port of the bridge `master`; 0 takes it off its bridge."""
    message = ifinfmsg()
    message["attrs"] = [["IFLA_IFNAME", name], ["IFLA_MASTER", master]]
    return encode(message, RTM_NEWLINK)


def changed(index: int, attributes_: list[list[Any]]) -> bytes:
    """Change `attributes_`, in pyroute2's form, of the interface `index`."""
    message = ifinfmsg()
    message["index"] = index
    message["attrs"] = attributes_
    return encode(message, RTM_NEWLINK)


def renamed(index: int, name: str) -> bytes:
    """Name the interface `index` `name`; its alternative names stay."""
    return changed(index, [["IFLA_IFNAME", name]])


def down(index: int) -> bytes:
    """Set the interface `index` down."""
    message = ifinfmsg()
    message["index"] = index
    message["flags"], message["change"] = 0, IFF_UP
    return encode(message, RTM_NEWLINK)


def no_other_name(index: int, name: str) -> bytes:
    """Take the alternative name `name` from the interface `index`."""
    names = attribute(
        IFLA_PROP_LIST | NLA_F_NESTED, attribute(IFLA_ALT_IFNAME, f"{name}\0".encode())
    )
    message = struct.pack("=BBHiII", 0, 0, 0, index, 0, 0) + names
    return request(RTM_DELLINKPROP, message)


def gone(index: int) -> bytes:
    """Delete the interface `index`; a veth pair loses both ends."""
    message = ifinfmsg()
    message["index"] = index
    return encode(message, RTM_DELLINK)


def doomed(index: int) -> bytes:
    """Cut off the bridge port `index`, and mark it for deletion."""
    return _doomed().filled(index=template.number(index))


@cache
def _doomed() -> Template:
    message = ifinfmsg()
    message["index"] = template.NUMBER
    message["flags"], message["change"] = 0, IFF_UP
    message["attrs"] = [["IFLA_MASTER", 0], ["IFLA_GROUP", DOOMED]]
    return Template(encode(message, RTM_NEWLINK), index=template.number(template.NUMBER))


def group_gone(group: int) -> bytes:
    """Delete all interfaces of a `group`, at once."""
    return _group_gone().filled(group=template.number(group))


@cache
def _group_gone() -> Template:
    message = ifinfmsg()
    message["attrs"] = [["IFLA_GROUP", template.NUMBER]]
    group = template.number(template.NUMBER)
    return Template(encode(message, RTM_DELLINK), group=group)


def _no_link_local() -> list[Any]:
    mode = ["IFLA_INET6_ADDR_GEN_MODE", ADDR_GEN_MODE_NONE]
    return ["IFLA_AF_SPEC", {"attrs": [["AF_INET6", {"attrs": [mode]}]]}]


def _linkinfo(kind: str, data: dict[str, Any] | None) -> list[Any]:
    attrs: list[Any] = [["IFLA_INFO_KIND", kind]]
    if data is not None:
        attrs.append(["IFLA_INFO_DATA", data])
    return ["IFLA_LINKINFO", {"attrs": attrs}]
