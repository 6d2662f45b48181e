"""The configuration file: what may stand in it, and how an error names line, key and remedy."""

from __future__ import annotations

import os
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.config import load as configfile
from watcher.config import ula
from watcher.config.lines import find_line
from watcher.config.load import load
from watcher.config.patterns import root_of
from watcher.config.settings import Config, Firewall, Gate, Limits, Root
from watcher.model.errors import UsageError
from watcher.model.network import Network, Route

LAB = '[network.lab]\nbridge = "lab0"\nsubnets = ["10.9.0.0/24"]\n'

# docs/configuration.md: the file that gives the defaults explicitly.
DEFAULTS = """
state_dir = "/var/lib/watcher"     # leases.db (SQLite)
run_dir   = "/run/watcher"         # lock, runtime files
netns_dir = "/run/netns"           # pins

[[root]]
path   = "/run/runc"
attach = "all"

[gate]
mode       = "auto"
timeout    = 5.0
on_timeout = "allow"
on_invalid = "deny"
share      = true

[network.default]
bridge     = "netns0"
subnets    = ["172.19.0.0/16"]
interface  = "eth0"
mtu        = 1500
masquerade = true
internal   = false
isolate    = false
"""

EVERYTHING = """
state_dir = "/state/"
run_dir = "/state/./run"
netns_dir = "/state//netns"

[[root]]
path = "/run/containerd/runc/k8s.io"
attach = "annotated"

[root.limits]
host_ports = ["80", "1024-65535"]
host_addresses = ["127.0.0.1", "::"]
networks = ["lab"]
fixed = false
share = "root"

[[root]]

[gate]
mode = "required"
timeout = 600
on_timeout = "deny"
on_invalid = "allow"
share = false

[network.lab]
bridge = "lab0"
subnets = ["10.9.0.0/24", "fd00:9::/64"]
interface = "lab"
mtu = "auto"
masquerade = true
internal = true
isolate = true
managed = false
guard = false
reach = ["default"]
routes = [{ to = "10.0.0.0/8", via = "10.9.0.2" }, { to = "::/0", via = "fd00:9::2" }]
metric = 4294967295

[firewall]
integrate = true
"""


type Reader = Callable[[str], Config]
type Refuser = Callable[[str], str]


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    """Reads a configuration of this text."""
    path = tmp_path / "watcher.toml"

    def read(text: str) -> Config:
        path.write_text(text)
        return load(path)

    return read


@pytest.fixture
def refusal(read: Reader, tmp_path: Path) -> Refuser:
    """The error of a configuration of this text, without the directory of the file."""

    def refusal(text: str) -> str:
        with pytest.raises(UsageError) as error:
            read(text)
        assert str(error.value).isprintable()
        return str(error.value).removeprefix(f"{tmp_path}/")

    return refusal


def test_no_file_and_an_empty_file_and_the_manual_say_the_same(
    read: Reader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(configfile, "DEFAULT_PATH", tmp_path / "absent.toml")
    assert load(None) == read("") == read(DEFAULTS) == Config()


def test_the_usual_file_is_read_where_it_exists(
    read: Reader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read('[gate]\nmode = "off"')
    monkeypatch.setattr(configfile, "DEFAULT_PATH", tmp_path / "watcher.toml")
    assert load(None).gate.mode == "off"


def test_everything_that_can_be_said(read: Reader) -> None:
    assert read(EVERYTHING) == Config(
        state_dir="/state",
        run_dir="/state/run",
        netns_dir="/state/netns",
        roots=(
            Root(
                path="/run/containerd/runc/k8s.io",
                attach="annotated",
                limits=Limits(
                    host_ports=((80, 80), (1024, 65535)),
                    host_addresses=(IPv4Address("127.0.0.1"), IPv6Address("::")),
                    networks=("lab",),
                    fixed=False,
                    share="root",
                ),
            ),
            Root(),
        ),
        gate=Gate(
            mode="required", timeout=600.0, on_timeout="deny", on_invalid="allow", share=False
        ),
        networks={
            "default": Network(),
            "lab": Network(
                name="lab",
                bridge="lab0",
                subnets=(IPv4Network("10.9.0.0/24"), IPv6Network("fd00:9::/64")),
                interface="lab",
                mtu="auto",
                internal=True,
                isolate=True,
                managed=False,
                guard=False,
                reach=("default",),
                routes=(
                    Route(to=IPv4Network("10.0.0.0/8"), via=IPv4Address("10.9.0.2")),
                    Route(to=IPv6Network("::/0"), via=IPv6Address("fd00:9::2")),
                ),
                metric=4294967295,
            ),
        },
        firewall=Firewall(integrate=True),
    )


def test_an_error_names_line_key_value_and_what_is_accepted(refusal: Refuser) -> None:
    assert refusal('\n[gate]\nmode = "of"') == (
        'watcher.toml:3: gate.mode = "of": not one of "auto", "off", "required"; write "off"'
    )


def test_an_unknown_key_names_the_known_ones_and_the_nearest(refusal: Refuser) -> None:
    assert refusal('[gate]\n# for long\ntimout = 5\nmode = "off"') == (
        "watcher.toml:3: gate.timout = 5: unknown key, not one of mode, timeout, on_timeout,"
        " on_invalid, share; write timeout"
    )


def test_the_line_is_that_of_the_right_element_of_a_list(refusal: Refuser) -> None:
    text = '[[root]]\npath = "/a"\n[root.limits]\nfixed = true\n[[root]]\npath = "/b"\n'
    assert refusal(text + "[root.limits]\nfixed = 1").startswith("watcher.toml:8: ")
    assert refusal(text + "[[root]]\n\npath = 'c'").startswith("watcher.toml:9: ")


def test_the_line_is_that_on_which_a_value_begins(refusal: Refuser) -> None:
    text = '[network.lab]\nbridge = "lab0"\nsubnets = [\n  "10.9.0.0/24",\n  "10.9.0.1",\n]\n'
    assert refusal(text).startswith('watcher.toml:3: network.lab.subnets = "10.9.0.1": ')


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("a.b = 1", ("a", "b"), 1),
        ("x = 1\r\na = { c = 1, b = 1 }", ("a", "b"), 2),
        ("[a]\n'b' = 1", ("a", "b"), 2),
        ("[a]\nx = '''\n[a]\nb = 1\n'''\n\nb = 2", ("a", "b"), 7),
        ("[a.c]\nb = 1\n[a]\nb = 1", ("a", "b"), 4),
        ("[a.c]\nb = 1\n", ("a",), 1),
        ("[[a]]\n[[a.b]]\n[[a.b]]\nx = 1\n[[a]]\n[[a.b]]\n  x = 1", ("a", 0, "b", 1, "x"), 4),
        ("[[a]]\n[[a.b]]\n[[a.b]]\nx = 1\n[[a]]\n[[a.b]]\n  x = 1", ("a", 1, "b", 0, "x"), 7),
        ("[a]\nb = 1", ("a", "c"), None),
    ],
)
def test_finds_the_line_of_a_key(text: str, path: tuple[str | int, ...], line: int | None) -> None:
    assert find_line(text, path) == line


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('state_dir = "var"', 'state_dir = "var": not an absolute path'),
        ('run_dir = "/run/../etc"', "not an absolute path"),
        ('netns_dir = "/"', "not an absolute path"),
        ("state_dir = 1", "state_dir = 1: not a string"),
        ("root = []", "no root to watch"),
        ("root = [1]", "root = 1: not a table"),
        ("[root]", "root: not a list of tables"),
        ('[[root]]\npath = "/a"\n[[root]]\npath = "/a/"', "is the same directory as root /a"),
        ('[[root]]\npath = "/a/b"\n[[root]]\npath = "/a"', "is within root /a"),
        ('[[root]]\npath = "/a/b/c"\n[[root]]\npath = "/ab"\n[[root]]\npath = "/a"', "within"),
        ('[[root]]\npath = "/a/*/b"', "has a pattern before its last part"),
        ('[[root]]\npath = "/*"', "matches the directories of the whole host"),
        ('[[root]]\npath = "/a/b**"', "has **, but a pattern is of one part"),
        ('[[root]]\npath = "/a/[b"', "has a [ without its ]"),
        ('[[root]]\npath = "/a/[]"', "has a [ without its ]"),
        ('[[root]]\npath = "/run/*"', "matches /run/watcher, where run_dir is"),
        ('[[root]]\npath = "/var/[l]*"', "matches /var/lib, where state_dir is"),
        ('[[root]]\npath = "/a/*"\n[[root]]\npath = "/a/*"', "is the same directory as root /a/*"),
        ('[[root]]\npath = "/a/*"\n[[root]]\npath = "/a"', "is within root /a"),
        ('[[root]]\npath = "/a/*"\n[[root]]\npath = "/a/b/c"', "is within root /a/*"),
        ('[[root]]\npath = "/a/b*"\n[[root]]\npath = "/a/bc/*"', "is within root /a/b*"),
        ("\n".join(f'[[root]]\npath = "/a/{n}*"' for n in range(65)), "more than 64 patterns"),
        ('[[root]]\nattach = "some"', 'not one of "all", "annotated"'),
        ("[[root]]\nlimits.host_ports = [80]", "root.limits.host_ports = 80: not a string"),
        ('[[root]]\nlimits.host_ports = ["9-8"]', "not an ascending range"),
        ('[[root]]\nlimits.host_ports = ["0"]', "not an ascending range"),
        ('[[root]]\nlimits.host_addresses = ["x"]', "not an IPv4 or IPv6 address"),
        ('[[root]]\nlimits.networks = ["lab"]', 'networks = "lab": no such network'),
        ("[[root]]\nlimits.fixed = 1", "not true or false"),
        ('[[root]]\nlimits.names = ["a_*"]', "not a pattern of names"),
        ('[[root]]\nlimits.names = [""]', "not a pattern of names"),
        ("[gate]\ntimeout = 0", "gate.timeout = 0: not more than 0 and at the most 600 seconds"),
        ("[gate]\ntimeout = inf", "gate.timeout = inf: not more than 0"),
        ("[gate]\ntimeout = nan", "gate.timeout = nan: not more than 0"),
        ("[gate]\ntimeout = 601", "at the most 600 seconds"),
        ("[gate]\ntimeout = true", "not a number"),
        ("gate = 5", "gate = 5: not a table"),
        ("gate.mode = 2024-01-01", "gate.mode = 2024-01-01: not one of"),
        ("[firewall]\nintegrate = 'yes'", "not true or false"),
        ("[nets]", "nets: unknown key"),
        ("names = true", "names = true: not a table"),
        ("[names]\ndomains = 1", "names.domains = 1: unknown key, not one of domain, servers"),
        ("[names]\ndomain = 1", "names.domain = 1: not a string"),
        ("[names]\ndomain = ''", 'names.domain = "": not a domain; write one like'),
        ("[names]\ndomain = 'a..b'", "not a domain"),
        ("[names]\ndomain = 'a_b.example'", "not a domain"),
        ("[names]\ndomain = '-a.example'", "not a domain"),
        ("[names]\ndomain = 'lán.example'", "not a domain"),
        ("[names]\ndomain = 'lan.example\\n'", "not a domain"),
        (f"[names]\ndomain = '{'a' * 64}'", "not a domain"),
        (f"[names]\ndomain = '{'a.' * 64}b'", "not a domain"),
        ("[names]\ndomain = 'host.local'", "ends in local, which is used otherwise"),
        ("[names]\ndomain = '10.in-addr.arpa'", "ends in arpa, which is used otherwise"),
        ("[names]\nservers = '192.0.2.53'", 'names.servers = "192.0.2.53": not a list of strings'),
        ("[names]\nservers = ['dns.example']", "not an IPv4 or IPv6 address"),
        ("[names]\nservers = ['192.0.2.53:53']", "not an IPv4 or IPv6 address"),
        ("[names]\nservers = ['192.0.2.53', '0.0.0.0']", "not the address of a server"),
        ("[names]\nservers = ['ff02::fb']", "not the address of a server"),
        ("[names]\nservers = ['255.255.255.255']", "not the address of a server"),
        ("[names]\nservers = ['fe80::1']", "not the address of a server"),
    ],
)
def test_a_bad_value_is_refused(refusal: Refuser, text: str, error: str) -> None:
    assert error in refusal(text)


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("mtu = 575", "mtu = 575: not a whole number from 576 to 65535"),
        ("mtu = 'none'", 'nor "auto"'),
        ("mtu = true", "not a whole number"),
        ("mtu = 1279\nsubnets = ['10.8.0.0/24', 'ula']", "less than 1280, which IPv6 needs"),
        ("metric = -1", "not a whole number from 0 to 4294967295"),
        ("metric = 4294967296", "not a whole number from 0 to 4294967295"),
        ("masquerade = 'yes'", "not true or false"),
        ("bridge = 'netnsv1'", "begins with netnsv"),
        ("bridge = ''", "not an interface's name"),
        ("bridge = 'sixteen-letters-'", "not an interface's name"),
        ("bridge = 'br/0'", "not an interface's name"),
        ("bridge = 'br*'", "not an interface's name"),
        ("interface = 'eth 0'", "not an interface's name"),
        ("interface = 'lo'", "not an interface's name"),
        ("subnets = '10.0.0.0/24'", "not a list of subnets"),
        ("subnets = []", "not one IPv4 subnet, one IPv6 subnet, or one of each"),
        ("subnets = ['10.0.0.0/24', '10.0.1.0/24']", "or one of each"),
        ("subnets = ['fd00::/64', 'ula']", "or one of each"),
        ("subnets = ['10.0.0.0']", "not a subnet"),
        ("subnets = ['10.0.0.0/33']", "not a subnet"),
        ("subnets = ['10.0.0.0/255.0.0.0']", "not a subnet"),
        ("subnets = ['10.0.0.7/24']", 'has bits behind its prefix; write "10.0.0.0/24"'),
        ("subnets = ['fd00::1/64']", 'has bits behind its prefix; write "fd00::/64"'),
        ("subnets = ['10.0.0.0/31']", "no room"),
        ("subnets = ['fd00::/127']", "no room"),
        ("subnets = ['127.1.0.0/16']", "loopback"),
        ("subnets = ['0.0.0.0/0']", "overlaps 0.0.0.0/8"),
        ("subnets = ['224.1.0.0/16']", "multicast"),
        ("subnets = ['fe80::/64']", "link-local"),
        ("reach = ['lab']", 'reach = "lab": no such network'),
        ("reach = ['default']", "the network itself"),
        ("reach = ['default:80']", "the network itself"),
        ("reach = ['lab:80/tcp']", 'reach = "lab:80/tcp": no such network'),
        ("reach = ['lab:']", 'reach = "lab:": no network with ports; write it like "back",'),
        ("reach = ['lab:90-80']", "no ascending ports from 1 to 65535"),
        ("reach = ['lab:8/icmp']", "has a port, and ICMP has none"),
        ("reach = ['lab/TCP']", "no network with ports"),
        ("reach = ['lab:80/http']", '"http" is none of tcp, udp, sctp, icmp'),
        ("reach = 'default'", "not a list of strings"),
        ("routes = [{ to = '10.0.0.0/8' }]", "has no via"),
        (
            "routes = [{ to = '10.0.0.0/8', via = '172.19.0.2' }]\nmode = 'routed'",
            "have no neighbours on their links",
        ),
        ("routes = [{ to = '10.0.0.1/8', via = '172.19.0.2' }]", 'write "10.0.0.0/8"'),
        ("routes = [{ to = '10.0.0.0/8', via = '10.0.0.1' }]", "an address of 172.19.0.0/16"),
        ("routes = [{ to = 'fd00::/8', via = '172.19.0.2' }]", "not of the family of fd00::/8"),
        ("routes = [{ to = '10.0.0.0/8', via = '172.19.0.2', dev = '' }]", "unknown key"),
        ("name = 'other'", "unknown key"),
        ("names = 'yes'", "not true or false"),
        ("names = true\nmanaged = false", "cannot be true with managed = false"),
    ],
)
def test_a_bad_network_is_refused(refusal: Refuser, lines: str, error: str) -> None:
    found = refusal(f"[network.default]\n{lines}")
    assert found.startswith("watcher.toml:2: network.default.")
    assert error in found


@pytest.mark.parametrize("name", ["none", "a b", "-a", "é", "", "a" * 33, "a\\n"])
def test_a_network_has_a_plain_name(refusal: Refuser, name: str) -> None:
    assert "not a network's name" in refusal(f'[network."{name}"]')


def test_a_network_of_ones_own_needs_a_bridge_and_subnets(refusal: Refuser) -> None:
    assert refusal("[network.lab]") == (
        "watcher.toml:1: network.lab: has no bridge; write bridge = … below"
    )
    assert "has no subnets" in refusal('[network.lab]\nbridge = "lab0"')


def test_networks_have_bridges_of_their_own(refusal: Refuser) -> None:
    text = LAB.replace("lab0", "netns0")
    assert refusal(text).startswith(
        'watcher.toml:2: network.lab.bridge = "netns0": is the bridge of network default as well'
    )


def test_subnets_of_networks_do_not_overlap(refusal: Refuser, read: Reader) -> None:
    other = LAB.replace("lab", "two").replace("/24", "/16")
    assert 'network.two.subnets = "10.9.0.0/16": overlaps 10.9.0.0/24' in refusal(LAB + other)
    assert read(LAB + other.replace("10.9", "10.8"))


def test_an_overlap_with_the_default_says_that_it_is_one(refusal: Refuser, read: Reader) -> None:
    text = LAB.replace("10.9.0.0", "172.19.5.0")
    assert refusal(text) == (
        'watcher.toml:3: network.lab.subnets = "172.19.5.0/24": overlaps 172.19.0.0/16, the subnet'
        " of network default (its default; [network.default] can set another); give one of the two"
        " another subnet"
    )
    assert read(text + '[network.default]\nsubnets = ["10.0.0.0/24"]')


def test_ula_is_a_subnet_that_stays(
    read: Reader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = LAB.replace('"]', '", "ula"]')
    monkeypatch.setattr(ula, "MACHINE_ID", tmp_path / "machine-id")
    ula.MACHINE_ID.write_text("0123456789abcdef0123456789abcdef\n")
    subnet = read(text).networks["lab"].subnets[1]
    # printf '0123456789abcdef0123456789abcdef\0lab' | sha256sum: 917d6dda8c…
    assert subnet == IPv6Network("fd91:7d6d:da8c::/64")
    assert read(text.replace("network.lab", "network.two")).networks["two"].subnets[1] != subnet
    ula.MACHINE_ID.unlink()  # then it is the host's name that counts
    by_name = read(text).networks["lab"].subnets[1]
    assert by_name != subnet
    assert isinstance(by_name, IPv6Network)
    assert by_name.subnet_of(IPv6Network("fd00::/8"))


def test_a_file_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load(tmp_path / "absent.toml")


def test_a_dangling_link_is_not_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "watcher.toml").symlink_to("absent.toml")
    monkeypatch.setattr(configfile, "DEFAULT_PATH", tmp_path / "watcher.toml")
    with pytest.raises(UsageError, match="No such file"):
        load(None)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Is a directory"):
        load(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="not a regular file"):
        load(tmp_path / "fifo")
    with pytest.raises(UsageError, match="not a regular file"):
        load(Path("/dev/zero"))
    with pytest.raises(UsageError, match="not a path"):
        load(tmp_path / "a\0b")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"x = ", "watcher.toml:1: not TOML: Invalid value"),
        (b"\n[gate\n\n", "watcher.toml:2: not TOML: "),
        (b"[gate]\n[gate]\n", "watcher.toml:2: not TOML: Cannot declare gate twice"),
        (
            b"[network.'a (b)']\n[network.'a (b)']\n",
            'not TOML: Cannot declare network."a (b)" twice',
        ),
        (b"[gate]\nmode = {}\nmode.x = 1", "Cannot mutate immutable namespace gate.mode"),
        (b"[[root]]\n[root]\n", "Cannot declare root twice"),
        (b"x = {a = 1, a = 2}", "not TOML: Duplicate inline table key 'a'"),
        (b"\n\nx = '\xff'", "watcher.toml:3: not UTF-8"),
        (b"#" * (1024 * 1024 + 1), "watcher.toml: more than 1048576 bytes"),
        (b"a = " + b"[" * 100_000, "watcher.toml: nested too deeply"),
        (b"a." * 100_000 + b"a = 1", "watcher.toml: nested too deeply"),
        (b"a = " + b"9" * 5000, "watcher.toml: not TOML: "),
        (b"state_dir = 0x" + b"f" * 5000, "state_dir = an integer of 20000 bits: not a string"),
        (b"a = " + b"[" * 90 + b"]" * 90, "a = […]: unknown key"),
    ],
)
def test_what_is_no_configuration_is_refused_in_a_line(
    tmp_path: Path, data: bytes, error: str
) -> None:
    path = tmp_path / "watcher.toml"
    path.write_bytes(data)
    with pytest.raises(UsageError) as caught:
        load(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    assert error in str(caught.value)


def outcome(path: Path) -> Config | UsageError:
    """What the file `path` is read as: a configuration, or the error."""
    try:
        return load(path)
    except UsageError as error:
        return error


VALUES = st.recursive(
    st.sampled_from(["true", "-1", "80", "5.0", "nan", "''", "'auto'", "'ula'", "1979-05-27"])
    | st.sampled_from(["'/run'", "'10.0.0.0/24'", "'fd00::/64'", "'10.0.0.1'", "'default'", "{}"]),
    lambda values: st.lists(values, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
    max_leaves=4,
)
KEYS = st.sampled_from(
    [line.partition("=")[0].strip() for line in EVERYTHING.splitlines() if "=" in line]
)
TABLES = st.sampled_from(
    ["[[root]]", "[root.limits]", "[gate]", "[network.default]", "[network.lab]", "[firewall]"]
)
LINES = TABLES | st.builds("{} = {}".format, KEYS, VALUES)


@given(
    data=st.binary(max_size=100)
    | st.text(max_size=100).map(str.encode)
    | st.lists(LINES, max_size=8).map(lambda lines: "\n".join(lines).encode())
)
def test_any_file_is_a_configuration_or_an_error_of_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(data)
    found = outcome(path)
    if isinstance(found, UsageError):
        assert str(found).isprintable()
        assert str(found).startswith(str(path))
    else:
        assert "default" in found.networks


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*", "moby", True),
        ("*", ".cache", False),
        (".*", ".cache", True),
        ("m?by", "moby", True),
        ("[a-m]*", "moby", True),
        ("[!a-m]*", "moby", False),
        ("M*", "moby", False),
        ("[[]x", "[x", True),
        ("[]]x", "]x", True),
        ("k8s.io", "k8s_io", False),
    ],
)
def test_a_root_by_pattern_is_what_a_shell_would_match(
    tmp_path: Path, pattern: str, name: str, matches: bool
) -> None:
    file = tmp_path / "watcher.toml"
    file.write_text(f'[[root]]\npath = "/a/exact"\n[[root]]\npath = "/a/{pattern}"\n')
    roots = load(file).roots
    assert (root_of(roots, f"/a/{name}") is not None) is matches
    assert root_of(roots, f"/b/{name}") is None
    assert root_of(roots, f"/a/{name}/below") is None
    assert root_of(roots, "/a/exact") is roots[0]
