"""The settings stand once: the file, the page, the schema and `watcher config` are made of that."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from msgspec.structs import replace

from tests.support.host import Host
from watcher.config.changes import live_changes
from watcher.config.load import Source, load, read
from watcher.config.schema import schema
from watcher.config.settings import Config
from watcher.config.written import toml, written
from watcher.model.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.host import HostMaker

from tools import configuration

FULL = """
run_dir = "/state/run"

[[root]]
path = "/run/a \\"b\\" \\\\ é"
attach = "annotated"

[root.limits]
host_ports = ["80", "1024-65535"]
host_addresses = ["127.0.0.1", "::"]
networks = ["a.b"]
fixed = false
names = ["app-*", "db"]
egress_bandwidth = "8k"
policy = "walled"

[[root]]

[gate]
timeout = 600.0

[network."a.b"]
bridge = "lab0"
subnets = ["10.9.0.0/24", "fd00:9::/64"]
mtu = "auto"
reach = ["default:5432/tcp"]
routes = [{ to = "10.0.0.0/8", via = "10.9.0.2" }, { to = "::/0", via = "fd00:9::2" }]
ingress_bandwidth = "1500M"
connections = 20000
metric = 4294967295

[network.walled]
bridge = "walled0"
subnets = ["10.7.0.0/24"]
egress = ["!10.0.0.0/8", "*.pypi.org:443/tcp", "any:80"]
ingress = []

[firewall]
integrate = true
mark = 1
"""
"""A file that has a bit of everything."""

REGENERATE = "run `.venv/bin/python tools/configuration.py`, and commit what it writes"


# --- what is made --------------------------------------------------------------------------------


def test_the_file_with_every_key_is_that_of_the_settings() -> None:
    assert configuration.FILE.read_text() == configuration.file(), REGENERATE


def test_the_page_is_that_of_the_settings() -> None:
    now = configuration.PAGE.read_text()
    assert now == configuration.page(now), REGENERATE


def keys() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each key of the schema: its table, its name, what is said of it."""
    for path, _, table in configuration.tables():
        for name, key in table.items():
            yield path, name, key


def test_every_key_has_words_and_a_default() -> None:
    for path, name, key in keys():
        assert key["description"].endswith("."), (path, name)
        assert "default" in key, (path, name)


OTHERS = """
[network.back]
bridge = "back0"
subnets = ["10.8.0.0/24"]
[network.db]
bridge = "db0"
subnets = ["10.7.0.0/24"]
"""
"""The networks that examples reach."""


@pytest.fixture
def text_of(tmp_path: Path) -> Callable[[str, str, object], Path]:
    """Writes a file with one key."""

    def text_of(path: str, name: str, value: object) -> Path:
        file = tmp_path / "watcher.toml"
        header = configuration.HEADERS.get(path, "")
        header = "[[root]]\n[root.limits]" if path == "root.limits" else header
        file.write_text(f"{header}\n{name} = {toml(value)}\n")
        return file

    return text_of


def test_the_schema_accepts_what_the_reader_accepts(
    text_of: Callable[[str, str, object], Path],
) -> None:
    for path, name, key in keys():
        for one in (key, *key.get("anyOf", ())):
            bounds = {key: one[key] for key in ("minimum", "maximum") if key in one}
            for value in (*one.get("enum", ()), *bounds.values(), *one.get("examples", ())):
                text = text_of(path, name, value)
                if name == "routes":  # its neighbour has to be one
                    text.write_text(text.read_text() + 'subnets = ["172.19.0.0/16"]\n')
                if name == "reach":
                    text.write_text(text.read_text() + OTHERS)
                assert load(text)
            for bound, beyond in (("minimum", -1), ("maximum", 1)):
                if bound in bounds:
                    with pytest.raises(UsageError, match=rf"{name} = "):
                        load(text_of(path, name, bounds[bound] + beyond))


# --- watcher config ------------------------------------------------------------------------------


def test_config_says_what_is_in_force_and_which_line_says_so(make_host: HostMaker) -> None:
    host = make_host('attach = "annotated"\n[gate]\ntimeout = 7\n[network."a.b"]\n'
                     'bridge = "lab0"\nsubnets = ["10.9.0.0/24"]\n')  # fmt: skip
    printed = host.watcher("config").stdout
    lines = host.config.read_text().splitlines()
    for text in ('attach = "annotated"', "timeout = 7", 'subnets = ["10.9.0.0/24"]'):
        number = lines.index(text) + 1
        (line,) = (line for line in printed.splitlines() if line.startswith(text))
        assert line.endswith(f"  # {host.config}:{number}")
    assert 'share = "any"' in printed
    (line,) = (line for line in printed.splitlines() if line.startswith("on_timeout"))
    assert line.endswith("  # default")
    assert '[network."a.b"]' in printed.splitlines()


def test_what_config_prints_is_a_file_that_says_the_same(host: Host, tmp_path: Path) -> None:
    host.config.write_text(FULL)
    printed = tmp_path / "printed.toml"
    printed.write_text(host.watcher("config").stdout)
    assert load(printed) == load(host.config)


def test_config_as_json_is_a_list_of_keys(host: Host) -> None:
    listed = json.loads(host.watcher("config", "--json").stdout)
    by_key = {entry["key"]: entry for entry in listed}
    assert len(by_key) == len(listed)
    assert by_key["state_dir"] == {
        "key": "state_dir", "value": str(host.state_dir), "file": str(host.config), "line": 1,
    }  # fmt: skip
    assert by_key["root[0].limits.host_ports"] == {
        "key": "root[0].limits.host_ports", "value": ["1-65535"], "file": None, "line": None,
    }  # fmt: skip
    assert by_key["network.default.mtu"]["value"] == 1500


def test_the_schema_is_there_whatever_the_file_says(host: Host) -> None:
    host.config.write_text("nonsense")
    assert host.watcher("config", check=False).returncode == 2
    printed = json.loads(host.watcher("config", "--schema").stdout)
    assert printed == json.loads(json.dumps(schema()))
    gate = printed["$defs"]["Gate"]["properties"]
    assert gate["timeout"]["x-live"] is True
    assert gate["timeout"]["x-unit"] == "seconds"
    assert "x-live" not in gate["mode"]


def test_what_is_written_is_what_was_read(tmp_path: Path) -> None:
    file = tmp_path / "watcher.toml"
    file.write_text(FULL)
    config = load(file)
    document = tomllib.loads(FULL)
    assert written(config)["network"]["a.b"].items() >= document["network"]["a.b"].items()
    assert written(config)["root"][0]["limits"].items() >= document["root"][0]["limits"].items()


JOINED: Final = '[cluster]\netcd = ["https://192.0.2.1:2379"]\n'
"""Without it, no network can be clustered."""


# --- what can change live ------------------------------------------------------------------------


def test_every_key_that_is_not_live_is_refused_by_its_line(
    text_of: Callable[[str, str, object], Path],
) -> None:
    other = {"path": "/run/other", "bridge": "other0", "subnets": ["10.9.0.0/24"], "metric": 7,
             "mtu": 1400, "interface": "net0", "log_group": 30,
             "routes": [{"to": "10.8.0.0/16", "via": "172.19.0.2"}],
             "state_dir": "/other", "run_dir": "/other", "netns_dir": "/other",
             "host_ports": ["80"], "host_addresses": ["127.0.0.1"], "networks": ["default"],
             "names": ["app-*"], "reach": ["lab"], "timeout": 7.5,
             "keep": 20, "keep_days": 7, "domain": "lan.example",
             "servers": ["192.0.2.53"], "egress": ["any"], "ingress": ["10.0.0.0/8"],
             "ingress_bandwidth": "1G", "egress_bandwidth": "1G", "connections": 20000,
             "policy": "lab", "mark": 1, "rules": "/etc/other.nft", "etcd": ["https://192.0.2.1:2379"],
             "ca": "/etc/ca.pem", "cert": "/etc/cert.pem", "key": "/etc/key.pem", "user": "other",
             "password_file": "/etc/password", "prefix": "/other", "host": "other",
             "address": "192.0.2.7", "ttl": 60, "port": 8472, "block": 64}  # fmt: skip
    beside = {"cluster": 'mode = "routed"\n', "cert": 'key = "/key"\n', "key": 'cert = "/cert"\n',
              "user": 'password_file = "/word"\n', "password_file": 'user = "one"\n'}  # fmt: skip
    lab = '\n[network.lab]\nbridge = "lab0"\nsubnets = ["10.99.0.0/24"]\negress = ["any"]\n'
    before = text_of("gate", "mode", "auto")
    before.write_text(lab)
    config = load(before)
    for path, name, key in keys():
        default = key["default"]
        value = not default if isinstance(default, bool) else other.get(name)
        if value is None:
            value = next(word for word in key["enum"] if word != default)
        file = text_of(path, name, value)
        line = file.read_text().count("\n")
        joined = JOINED if name == "cluster" else ""
        file.write_text(file.read_text() + beside.get(name, "") + lab + joined)
        source = read(file)
        if key.get("x-live"):
            assert [changed.rpartition(".")[2] for changed in live_changes(config, source)] == [
                name
            ]
        else:
            where = "" if name == "path" else f":{line}"
            with pytest.raises(UsageError, match=rf"watcher.toml{where}.*cannot change while") as e:
                live_changes(config, source)
            assert ("root" if name == "path" else name) in str(e.value)


def test_no_file_any_more_is_the_defaults() -> None:
    config = replace(Config(), state_dir="/other")
    with pytest.raises(UsageError, match="without a file: state_dir: cannot change"):
        live_changes(config, Source(Config()))
    assert live_changes(Config(), Source(Config())) == []
