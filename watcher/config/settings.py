"""The configuration as data: each key once, with its type, default, description and unit.

Everything else about a key follows from this: how the file is read and its errors (`keys`), what a
running service takes (`changes`), the JSON Schema (`schema`), and through that
`deploy/watcher.toml` and `docs/configuration.md`. Annotations are evaluated only when needed.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Literal

from msgspec import Struct, field

from watcher.model.network import Network
from watcher.model.setting import about


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What annotations in a root may ask for (`[root.limits]`).

    A wildcard address is allowed only if `host_addresses` is empty or has the unspecified address
    of its family.
    """

    host_ports: Annotated[
        tuple[tuple[int, int], ...],
        about(
            'Host ports that may be published: ranges "from-to" and single ports.', live=True,
            file={"type": "array", "items": {"type": "string"}},
        ),
    ] = ((1, 65535),)  # fmt: skip
    host_addresses: Annotated[
        tuple[IPv4Address | IPv6Address, ...],
        about(
            "Host addresses that may be published on; none named: any, the wildcard too.",
            live=True, file={"type": "array", "items": {"type": "string"}},
        ),
    ] = ()  # fmt: skip
    networks: Annotated[
        tuple[str, ...], about("Networks that may be joined; none named: any.", live=True)
    ] = ()
    fixed: Annotated[
        bool, about("Whether io.watcher.ip and io.watcher.mac are allowed.", live=True)
    ] = True
    share: Annotated[
        Literal["any", "root", "none"],
        about(
            'Whose sandboxes may be shared: "any" root\'s, those of the same "root", or "none".',
            live=True,
        ),
    ] = "any"
    names: Annotated[
        tuple[str, ...],
        about(
            "Patterns of what a container may be called; * stands for any characters."
            " io.watcher.name has to match one, and an id that matches none is no name. With no"
            " patterns, everything is allowed.",
            live=True, examples=[["app-*"]],
        ),
    ] = ()  # fmt: skip
    ingress_bandwidth: Annotated[
        int | None,
        about(
            "The most that each interface may receive, in bits a second, whatever it asks for.",
            live=True, examples=["1G"], file={"type": "string"},
        ),
    ] = None  # fmt: skip
    egress_bandwidth: Annotated[
        int | None,
        about(
            "The most that each interface may send, in bits a second, whatever it asks for.",
            live=True, examples=["100M"], file={"type": "string"},
        ),
    ] = None  # fmt: skip
    connections: Annotated[
        int | None,
        about(
            "The most connections that each sandbox may have at once, whatever it asks for.",
            live=True, examples=[20000], file={"type": "integer", "minimum": 1, "maximum": 2**31},
        ),
    ] = None  # fmt: skip
    policy: Annotated[
        str,
        about(
            "A network whose egress and ingress count for all containers of this root, too,"
            " whatever network they are in; empty: none.",
            live=True,
        ),
    ] = ""


class Root(Struct, frozen=True, forbid_unknown_fields=True):
    """A state directory to watch, or several by a pattern (`[[root]]`)."""

    path: Annotated[
        str,
        about(
            "The state directory, which is what `runc --root` or `crun --root` names. Its last part"
            ' may be a pattern, such as "/run/containerd/runc/*": *, ? and [...] as in a shell.'
            " Each directory that it matches is a root while it is there, and the keys here apply"
            " to it. If several [[root]] match a directory, the one with exactly its path counts,"
            " or else the first.",
            pattern="^/",
        ),
    ] = "/run/runc"
    attach: Annotated[
        Literal["all", "annotated"],
        about(
            'Which containers get a network: "all" that have a network namespace of their own, or'
            ' those that are "annotated" with at least one io.watcher.* key.',
            live=True,
        ),
    ] = "all"
    limits: Annotated[
        Limits,
        about(
            "What annotations in this root may ask for. The defaults allow everything: whoever may"
            " start containers as root needs no limits, whoever lets others write config.json wants"
            " them. A container that is attached already keeps what it has."
        ),
    ] = Limits()


class Gate(Struct, frozen=True, forbid_unknown_fields=True):
    """How runc is held until a network is ready (`[gate]`)."""

    mode: Annotated[
        Literal["auto", "off", "required"],
        about(
            '"auto": where the kernel allows it; "off": never, the network comes a moment after the'
            ' start; "required": the service refuses to start without.'
        ),
    ] = "auto"
    timeout: Annotated[
        float, about("How long a container may be held.", unit="seconds", live=True, gt=0, le=600)
    ] = 5.0
    on_timeout: Annotated[
        Literal["allow", "deny"],
        about(
            'What happens to it then: "allow" it to start, its network comes later, or "deny" its'
            " start.",
            live=True,
        ),
    ] = "allow"
    on_invalid: Annotated[
        Literal["deny", "allow"],
        about(
            'A request that cannot be met, such as a port that is taken: "deny" the start, runc'
            ' fails, or "allow" it without network.',
            live=True,
        ),
    ] = "deny"
    share: Annotated[
        bool,
        about(
            "Whether a held container with io.watcher.share and a network namespace of its own is"
            " moved into the sandbox that it names, by ptrace. false: no process is ever traced,"
            " and io.watcher.share needs the path that `watcher bundle --share` writes.",
            live=True,
        ),
    ] = True


class Firewall(Struct, frozen=True, forbid_unknown_fields=True):
    """How other firewalls of the host are treated (`[firewall]`)."""

    integrate: Annotated[
        bool,
        about(
            "Whether other firewalls let our traffic pass: what firewalld and Docker would drop of"
            " it, and in the chain INPUT of iptables, which is ufw's as well, questions to the name"
            " service and VXLAN of a cluster. false: `watcher check` only says what would stand in"
            " the way."
        ),
    ] = False
    mark: Annotated[
        int,
        about(
            "One bit of the packet mark. Where sandboxes are held to a list, it is set on what may"
            " pass, and `ip rule` drops the rest, so that nothing passes even while the rules of"
            " nftables are missing. No other program may use this bit.",
            ge=1,
            le=2**31,
        ),
    ] = 0x10000000
    closed: Annotated[
        bool,
        about(
            "Whether networks whose containers are held to lists stay closed while rules of"
            " nftables are missing, e.g. after `nft flush ruleset`. That takes rules of `ip rule`"
            " before all others. false: then such containers reach everything until the repair."
        ),
    ] = True
    log_group: Annotated[
        int,
        about(
            "The NFLOG group in which the rules tell the service of packets that a list or a bound"
            " rejected: it makes the events `rejected` and `connections-full` of them. Another"
            " program, such as ulogd, may not read the same group. 0: none, and no such events.",
            ge=0,
            le=65535,
        ),
    ] = 29
    rules: Annotated[
        str,
        about(
            "A file with nftables rules of your own, which see packets from and to containers"
            " before ours; empty: none. It is read again at each reload and `watcher sync`.",
            live=True,
            examples=["/etc/watcher/rules.nft"],
        ),
    ] = ""


class Events(Struct, frozen=True, forbid_unknown_fields=True):
    """The history of what happened (`[events]`)."""

    keep: Annotated[
        int, about("How many events to keep; 0 keeps none.", live=True, ge=0, le=10_000_000)
    ] = 10_000
    keep_days: Annotated[
        int, about("How long to keep them.", unit="days", live=True, ge=1, le=36_500)
    ] = 30


class Names(Struct, frozen=True, forbid_unknown_fields=True):
    """What `watcher names` tells the containers of networks with names (`[names]`)."""

    domain: Annotated[
        str,
        about(
            "The domain of the containers: `web` is web.watcher.internal as well, and"
            " web.default.watcher.internal. Nothing in it is ever asked elsewhere.",
            live=True,
        ),
    ] = "watcher.internal"
    servers: Annotated[
        tuple[IPv4Address | IPv6Address, ...],
        about(
            "Who is asked for all else, in this order; none: the servers of the host's"
            " resolv.conf.",
            live=True, file={"type": "array", "items": {"type": "string"}},
        ),
    ] = ()  # fmt: skip


class Cluster(Struct, frozen=True, forbid_unknown_fields=True):
    """The hosts that share clustered networks (`[cluster]`)."""

    etcd: Annotated[
        tuple[str, ...],
        about(
            "The client URLs of the members of etcd that `watcher cluster` speaks to; none: this"
            " host is in no cluster.",
            examples=[["https://10.0.0.1:2379", "https://10.0.0.2:2379"]],
            file={"type": "array", "items": {"type": "string"}},
        ),
    ] = ()
    ca: Annotated[
        str, about("The file with the certificates that those of etcd are checked against.")
    ] = ""
    cert: Annotated[str, about("The file with this host's certificate for etcd.")] = ""
    key: Annotated[str, about("The file with its key, which only root may read.")] = ""
    user: Annotated[str, about("The user of etcd; empty: none.")] = ""
    password_file: Annotated[
        str, about("The file with that user's password, which only root may read.")
    ] = ""
    prefix: Annotated[
        str, about("How the keys in etcd begin. Each cluster needs its own.", pattern="^/")
    ] = "/watcher"
    host: Annotated[
        str, about("This host's name in the cluster; empty: the machine's host name.")
    ] = ""
    address: Annotated[
        str,
        about(
            "The address by which the other hosts reach this one; empty: the one from which its"
            " default route leaves."
        ),
    ] = ""
    ttl: Annotated[
        int,
        about(
            "How long the other hosts wait before they take this one, if it is silent, for gone.",
            unit="seconds",
            ge=5,
            le=3600,
        ),
    ] = 30
    port: Annotated[int, about("The UDP port of VXLAN, the same on all hosts.", ge=1, le=65535)] = (
        4789
    )


class Config(
    Struct,
    frozen=True,
    forbid_unknown_fields=True,
    rename={"roots": "root", "networks": "network"},
):
    """The whole configuration; without a file, these defaults."""

    state_dir: Annotated[
        str,
        about(
            "Where the leases are kept (leases.db, SQLite); it has to survive a reboot.",
            pattern="^/",
        ),
    ] = "/var/lib/watcher"
    run_dir: Annotated[
        str,
        about(
            "The lock that two watchers on one host share, and other files of the running service.",
            pattern="^/",
        ),
    ] = "/run/watcher"
    netns_dir: Annotated[
        str,
        about(
            "Where each container's namespace gets its name, /run/netns/<container id>, for `ip"
            " netns exec` and for containers that share it.",
            pattern="^/",
        ),
    ] = "/run/netns"
    roots: Annotated[
        tuple[Root, ...],
        about(
            "A state directory of runc or crun. Write [[root]] again for a second one. With no"
            " [[root]] at all, /run/runc is watched.",
            title="Whose containers",
        ),
    ] = (Root(),)
    gate: Annotated[
        Gate,
        about(
            "runc is held before the container's first instruction until its network is ready, by"
            " fanotify.",
            title="The gate",
        ),
    ] = Gate()
    networks: Annotated[
        dict[str, Network],
        about(
            "One table each: [network.NAME], asked for by the annotation io.watcher.network. A"
            " container that asks for none gets `default`. Keys that are left out have the defaults"
            " below in every network; bridge and subnets have to be named in those other than"
            " `default`.",
            title="Networks", live=True,
        ),
    ] = field(default_factory=lambda: {"default": Network()})  # fmt: skip
    firewall: Annotated[
        Firewall,
        about("Those that drop forwarded traffic by default.", title="Other firewalls"),
    ] = Firewall()
    events: Annotated[
        Events,
        about(
            "What happened is kept in state_dir for `watcher events --since`, across restarts.",
            title="History",
        ),
    ] = Events()
    names: Annotated[
        Names,
        about(
            "Containers find each other by name, and the rest of the world, if `watcher names`"
            " runs.",
            title="Names",
        ),
    ] = Names()
    cluster: Annotated[
        Cluster,
        about(
            "Networks with `cluster = true` are the same on several hosts, which find each other by"
            " etcd, if `watcher cluster` runs on each.",
            title="Many hosts",
        ),
    ] = Cluster()
