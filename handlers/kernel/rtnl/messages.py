"""pyroute2's classes for rtnetlink messages, without the rest of pyroute2.

The `__init__` of pyroute2 imports all its netlink families and its interface database, which takes
more than a third of the service's start. So the package is registered without its `__init__`.
"""

import sys
from importlib.util import find_spec, module_from_spec

if "pyroute2" not in sys.modules and (_spec := find_spec("pyroute2")) is not None:
    sys.modules["pyroute2"] = module_from_spec(_spec)

from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

__all__ = ["fibmsg", "ifaddrmsg", "ifinfmsg", "ndmsg", "rtmsg"]
