"""Every mode in the list has a complete driver, and the configuration accepts it."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_interface
from pathlib import Path
from typing import Final

import pytest

from handlers.networks import driver_of
from watcher.config.load import load
from watcher.model.errors import UsageError
from watcher.model.network import MODES, Network
from watcher.model.sandbox import Interface

SUBNETS: Final = (IPv4Network("172.19.0.0/16"), IPv6Network("fd00:19::/64"))
INTERFACE: Final = Interface(
    0, "default", "eth0", "netnsv0-12", "02:42:ac:13:00:02",
    (ip_interface("172.19.0.2/16"), ip_interface("fd00:19::2/64")),
)  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_has_a_driver(mode: str) -> None:
    network = Network(mode=mode, subnets=SUBNETS)
    driver = driver_of(network)
    assert driver.network is network
    assert [way.address.ip for way in driver.ways(INTERFACE)] == [
        address.ip for address in INTERFACE.addresses
    ]
    assert all(way.hop is not None for way in driver.ways(INTERFACE))


@pytest.mark.parametrize("mode", MODES)
def test_its_guard_holds_an_interface_to_its_addresses(mode: str) -> None:
    driver = driver_of(Network(mode=mode, subnets=SUBNETS))
    facts = driver.guarded(INTERFACE)
    assert facts is not None
    assert facts.mac == INTERFACE.mac
    assert facts.addresses == tuple(address.ip for address in INTERFACE.addresses)
    assert driver_of(Network(mode=mode, subnets=SUBNETS, guard=False)).guarded(INTERFACE) is None


def test_a_configuration_may_have_these_modes_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "watcher.toml"
    for mode in MODES:
        file.write_text(f'[network.default]\nmode = "{mode}"\n')
        assert load(file).networks["default"].mode == mode
    file.write_text('[network.default]\nmode = "none"\n')
    names = ", ".join(f'"{mode}"' for mode in MODES)
    with pytest.raises(UsageError, match=re.escape(f"not one of {names}")):
        load(file)
