"""The numbers of rtnetlink that this program uses, and two of its own.

Sources: `include/uapi/linux/rtnetlink.h`, `if_link.h`, `if_addr.h`, `ipv6.h`, `neighbour.h` and
`net_namespace.h` of the kernel.
"""

from __future__ import annotations

import socket
from typing import Final

OURS: Final = 0x77617463
"""Interface group ("watc") of every link that this program makes; it identifies them."""

DOOMED: Final = 0x776E6463
"""Interface group of links that are cut off and will be deleted."""

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_GETNSID: Final = 90
RTM_NEWNETCONF: Final = 80
NETCONFA_IFINDEX, NETCONFA_FORWARDING = 1, 2
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
RTM_DELCHAIN: Final = 101
RTM_DELLINKPROP: Final = 109


RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80
NTF_SELF: Final = 0x02
NDA_DST, NDA_LLADDR, NDA_IFINDEX = 1, 2, 8
IFA_F_NODAD: Final = 0x02
ADDR_GEN_MODE_NONE: Final = 1
RTPROT_KERNEL, RTPROT_STATIC = 2, 4
RTN_UNICAST, RTN_LOCAL, RTN_UNREACHABLE = 1, 2, 7
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE = 0, 253, 255
RT_TABLE_MAIN, RT_TABLE_LOCAL = 254, 255
RTM_F_LOOKUP_TABLE, RTM_F_FIB_MATCH = 0x1000, 0x2000
RTEXT_FILTER_SKIP_STATS: Final = 8

IFI_SIZE: Final = 16
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_GROUP, IFLA_INFO_KIND = 18, 20, 27, 1
IFLA_INFO_DATA, IFLA_BR_MULTI_BOOLOPT, NO_LL_LEARN = 2, 46, 1
IFLA_LINK_NETNSID: Final = 37
IFLA_AF_SPEC, IFLA_INET6_CONF, DEVCONF_DISABLE_IPV6 = 26, 2, 26
IFLA_PROP_LIST, IFLA_ALT_IFNAME, NLA_F_NESTED = 52, 53, 0x8000
NETNSA_NSID, NETNSA_FD = 1, 3
NOTHING: Final = memoryview(b"")
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_TABLE = 1, 4, 5, 6, 15
RTA_PREFSRC, RTA_VIA, RTNH_F_ONLINK = 7, 18, 4


def family(version: int) -> int:
    """The address family of IP `version`."""
    return socket.AF_INET if version == 4 else socket.AF_INET6
