"""Addresses of a host, of the machine beyond its uplink, and of its first network."""

from __future__ import annotations

from typing import Final

UPLINK: Final = "192.0.2.2"
UPLINK6: Final = "2001:db8::2"
BEYOND: Final = "192.0.2.1"
BEYOND6: Final = "2001:db8::1"
GATEWAY: Final = "172.19.0.1"
SUBNET: Final = "172.19.0.0/16"
