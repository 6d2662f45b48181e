"""The rtnetlink requests that this program sends, one function each, and readers of answers.

pyroute2 encodes them, most of them only once (:mod:`handlers.kernel.template`).
"""

from handlers.kernel.rtnl.addresses import address, addresses, no_address, read_addresses
from handlers.kernel.rtnl.link_changes import (
    bridge,
    changed,
    doomed,
    enslaved,
    gone,
    group_gone,
    learn_no_link_local,
    learns_link_local,
    port,
    quiet,
    up,
    veth,
)
from handlers.kernel.rtnl.link_table import Link, link, link_at, links, read_link
from handlers.kernel.rtnl.netns import netns, read_netns
from handlers.kernel.rtnl.numbers import (
    DOOMED,
    OURS,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELROUTE,
    RTM_GETROUTE,
    RTM_NEWLINK,
    RTN_UNICAST,
)
from handlers.kernel.rtnl.routes import (
    Route,
    loopback,
    neighbour,
    read_route,
    read_route_index,
    read_routes,
    route,
    route_out,
    route_to,
    routes,
)

__all__ = [
    "DOOMED",
    "OURS",
    "RTM_DELADDR",
    "RTM_DELLINK",
    "RTM_DELROUTE",
    "RTM_GETROUTE",
    "RTM_NEWLINK",
    "RTN_UNICAST",
    "Link",
    "Route",
    "address",
    "addresses",
    "bridge",
    "changed",
    "doomed",
    "enslaved",
    "gone",
    "group_gone",
    "learn_no_link_local",
    "learns_link_local",
    "link",
    "link_at",
    "links",
    "loopback",
    "neighbour",
    "netns",
    "no_address",
    "port",
    "quiet",
    "read_addresses",
    "read_link",
    "read_netns",
    "read_route",
    "read_route_index",
    "read_routes",
    "route",
    "route_out",
    "route_to",
    "routes",
    "up",
    "veth",
]
