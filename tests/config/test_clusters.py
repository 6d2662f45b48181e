"""What a configuration may say of many hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from watcher.config.load import load
from watcher.model.errors import UsageError

ETCD = 'etcd = ["https://10.0.0.1:2379", "https://[fd00::1]:2379"]\n'
NETWORK = '[network.wide]\nbridge = "wide0"\nmode = "routed"\ncluster = true\n'
SUBNETS = 'subnets = ["10.9.0.0/16", "fd09::/64"]\n'
GOOD = NETWORK + SUBNETS + "[cluster]\n" + ETCD

BAD = {
    "no cluster": (NETWORK + SUBNETS, "wide.cluster.*is in no cluster; write etcd"),
    "a bridge": (GOOD.replace("routed", "bridge"), 'wide.cluster.*; write mode = "routed"'),
    "a block": (GOOD.replace("= true", "= true\nblock = 100"), "block = 100: not a power of two"),
    "a small subnet": (GOOD.replace("10.9.0.0/16", "10.9.0.0/24"), "no room for two blocks of 256"),
    "a subnet of this host": (GOOD.replace("fd09::/64", "ula"), "is this host's own"),
    "no URL": (GOOD.replace("https://10.0.0.1:2379", "10.0.0.1:2379"), "not the URL of a member"),
    "no port": (GOOD.replace("10.0.0.1:2379", "10.0.0.1"), "not the URL of a member"),
    "a bad port": (GOOD.replace("10.0.0.1:2379", "10.0.0.1:99999"), "not a URL"),
    "a path": (GOOD.replace("10.0.0.1:2379", "10.0.0.1:2379/v3"), "not the URL of a member"),
    "a user": (GOOD.replace("10.0.0.1:2379", "me:x@10.0.0.1:2379"), "has a user in it"),
    "twice": (GOOD.replace("https://[fd00::1]:2379", "https://10.0.0.1:2379"), "is there twice"),
    "http and https": (GOOD.replace("https://[fd00::1]", "http://[fd00::1]"), "has http and https"),
    "a CA for http": (GOOD.replace("https", "http") + 'ca = "/ca.pem"\n', "means nothing to http"),
    "a relative file": (GOOD + 'ca = "ca.pem"\n', "not an absolute path"),
    "no key": (GOOD + 'cert = "/cert.pem"\n', "is there without key; write key as well"),
    "no password": (GOOD + 'user = "me"\n', "is there without password_file"),
    "a host": (GOOD + 'host = "A_b"\n', "not a host's name"),
    "a prefix": (GOOD + 'prefix = "/watcher/"\n', "not a prefix of keys"),
    "a relative prefix": (GOOD + 'prefix = "watcher"\n', "not a prefix of keys"),
    "an address": (GOOD + 'address = "eth0"\n', "not an IPv4 or IPv6 address"),
    "a loopback address": (GOOD + 'address = "127.0.0.1"\n', "cannot reach that"),
    "a link-local address": (GOOD + 'address = "fe80::1"\n', "cannot reach that"),
    "IPv6 by routes of IPv4": (
        GOOD.replace("= true", '= true\nbackend = "routes"') + 'address = "10.0.0.1"\n',
        "IPv6 cannot be routed by hosts with IPv4 addresses",
    ),
    "a ttl": (GOOD + "ttl = 1\n", "a whole number from 5 to 3600"),
}  # fmt: skip


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_contradicts_itself_is_refused(text: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "watcher.toml"
    file.write_text(text[0])
    with pytest.raises(UsageError, match=text[1]) as refused:
        load(file)
    assert "watcher.toml:" in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("10.0.0.1:2379", "me:hunter2@10.0.0.1:2379"),
        GOOD.replace("10.0.0.1:2379", "me:hunter2/or@3@10.0.0.1:2379"),
        GOOD.replace("etcd =", "etc =").replace("10.0.0.1:2379", "me:hunter2@10.0.0.1:2379"),
        GOOD + 'password = "/hunter2"\n',
        GOOD + 'pasword_file = "hunter2"\n',
        GOOD + 'user = "me"\npassword_file = "hunter2"\n',
        GOOD + 'cert = "/cert.pem"\nkey = """-----BEGIN PRIVATE KEY-----\nhunter2"""\n',
    ],
)
def test_an_error_does_not_show_a_secret(text: str, tmp_path: Path) -> None:
    """It goes to the journal, which more may read than the configuration."""
    file = tmp_path / "watcher.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"cluster\.(etcd?|key|pas)") as refused:
        load(file)
    assert "hunter2" not in f"{refused.value} {refused.value.remedy}"


def test_a_network_of_many_hosts_is_read(tmp_path: Path) -> None:
    file = tmp_path / "watcher.toml"
    file.write_text(GOOD + 'host = "node-1.example"\naddress = "10.0.0.7"\n')
    config = load(file)
    wide = config.networks["wide"]
    assert (wide.cluster, wide.block, wide.backend, wide.tunnelled) == (True, 256, "auto", True)
    assert not config.networks["default"].tunnelled
    assert config.cluster.etcd[1] == "https://[fd00::1]:2379"
