"""A whole throwaway host for a test, and a machine beyond its uplink.

A :class:`Host` has network, mount and process namespaces of its own, and its own runc root, state,
run and netns directories. Nothing of the machine that the test runs on is touched, and everything
of the host ends with its first process, whose end is the end of the pipe that this one holds.

::

    beyond 192.0.2.1 ──── 192.0.2.2 uplink · host · netns0 172.19.0.1 ──── eth0 · container
           2001:db8::1    2001:db8::2
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any, Final, Literal, Self

import bundles
import traffic
from warm import Warm

from watcher.locks.lock import WRITERS

type Json = dict[str, Any]
type Done = subprocess.CompletedProcess[str]

REPOSITORY: Final = Path(__file__).resolve().parent.parent.parent
CGROUPS: Final = Path("/sys/fs/cgroup")
GATE_OFF: Final = '[gate]\nmode = "off"\n'
"""So that a request that cannot be met is seen as `failed`, and not refused by the gate."""
UPLINK: Final = "192.0.2.2"
UPLINK6: Final = "2001:db8::2"
BEYOND: Final = "192.0.2.1"
BEYOND6: Final = "2001:db8::1"
GATEWAY: Final = "172.19.0.1"
SUBNET: Final = "172.19.0.0/16"
PATIENCE: Final = 20.0
"""Seconds after which a condition that holds at all has come to hold, even on a slow machine."""
LATENCY_FREE_NO: Final = 0.4
"""Seconds to wait for a packet that must not arrive."""

_NAMESPACES: Final = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
_SETUP: Final = """
base=$1
mount -t tmpfs tmpfs /run
mount -t sysfs sysfs "$base/sys"
mount --rbind /sys/fs/cgroup "$base/sys/fs/cgroup"
mount --move "$base/sys" /sys
echo 0 > /proc/sys/net/ipv4/ip_forward
echo 0 > /proc/sys/net/ipv6/conf/all/forwarding
touch "$base/beyond"
unshare --net="$base/beyond" ip -batch - <<END
link set lo up
link add uplink type veth peer name uplink netns 1
link set uplink up
addr add 192.0.2.1/24 dev uplink
addr add 2001:db8::1/64 dev uplink nodad
END
ip -batch - <<END
link set lo up
link set uplink up
addr add 192.0.2.2/24 dev uplink
addr add 2001:db8::2/64 dev uplink nodad
route add default via 192.0.2.1
route add default via 2001:db8::1
END
echo ready
exec env --ignore-signal=CHLD cat
"""
# A first process that ignores the end of its children has the kernel reap them, as init would.

_numbers = itertools.count(1)


@functools.cache
def warm() -> Warm:
    """What starts the commands of this process's hosts; it ends with this process."""
    return Warm()


def eventually[T](condition: Callable[[], T], timeout: float = PATIENCE, *, what: str = "") -> T:
    """Waits until `condition` returns something true, and returns that.

    A condition that raises `AssertionError`, `LookupError` or `OSError` does not hold yet.

    Raises:
        AssertionError: after `timeout` seconds, with the last that `condition` said.
    """
    deadline = time.monotonic() + timeout
    pause = 0.005
    while True:
        error: Exception | None = None
        value: T | None = None
        try:
            value = condition()
        except (AssertionError, LookupError, OSError) as raised:
            error = raised
        if value:
            return value
        if time.monotonic() > deadline:
            name = what or getattr(condition, "__name__", "the condition")
            raise AssertionError(
                f"{name} does not hold after {timeout} s: {error or value!r}"
            ) from error
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def toml(text: str) -> str:
    """`text` as a TOML string."""
    return json.dumps(text)


class Place:
    """One network namespace of a host: the host's own, a container's, or another machine's.

    Args:
        host: the host.
        name: what its servers call themselves.
        path: the namespace's file as this process sees it.
    """

    def __init__(self, host: Host, name: str, path: Path) -> None:
        self.host = host
        self.name = name
        self.netns = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Lets go of the namespace."""
        os.close(self.netns)

    @property
    def file(self) -> Path:
        """A path that leads to it for other processes, even after the end of its container."""
        return Path(f"/proc/{os.getpid()}/fd/{self.netns}")

    @property
    def inode(self) -> int:
        """Number of the namespace on nsfs."""
        return os.fstat(self.netns).st_ino

    def run(self, *argv: str, check: bool = True, stdin: str | None = None) -> Done:
        """Runs a command of the host here and waits for its end."""
        return self.host.command(*argv, check=check, stdin=stdin, netns=self)

    def ip(self, *args: str) -> Any:
        """What `ip -json -details` prints here, read."""
        output = self.run("ip", "-json", "-details", *args).stdout
        return json.loads(output) if output.strip() else []

    def link(self, name: str) -> Json | None:
        """A link with its addresses as `ip -j -d addr` shows it, or `None`."""
        return next((link for link in self.ip("addr") if link["ifname"] == name), None)

    def links(self) -> set[str]:
        """The names of its links."""
        with traffic.entered(self.netns):
            return {name for _, name in socket.if_nameindex()}

    def addresses(self, name: str = "eth0") -> list[str]:
        """A link's addresses with prefix lengths, without link-local ones."""
        link = self.link(name)
        assert link is not None, f"{self.name} has no {name}"
        return [
            f"{entry['local']}/{entry['prefixlen']}"
            for entry in link["addr_info"]
            if entry["scope"] != "link"
        ]

    def picture(self) -> Json:
        """Its links with their addresses, and its routes, without what changes by itself."""
        return {
            "links": [
                {key: link.get(key) for key in ("ifname", "ifindex", "address", "mtu", "master")}
                | {"up": "UP" in link["flags"]}
                | {"addresses": [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]]}
                for link in self.ip("addr")
            ],
            "routes": [
                (route["dst"], route.get("gateway"), route["dev"], route.get("metric"))
                for family in ("-4", "-6")
                for route in self.ip(family, "route")
                if not route["dst"].startswith("fe80:")
            ],
        }

    def serve(
        self, *, tcp: tuple[int, ...] = (), udp: tuple[int, ...] = (), address: str = ""
    ) -> traffic.Echo:
        """Starts servers here that tell their name and the client's address, until the host ends.

        See :class:`traffic.Echo`; close it to stop it earlier.
        """
        echo = traffic.Echo(self.netns, self.name, tcp=tcp, udp=udp, address=address)
        self.host.on_close(echo.close)
        return echo

    def reach(
        self,
        address: str,
        port: int,
        protocol: Literal["tcp", "udp"] = "tcp",
        *,
        source: str = "",
        timeout: float = traffic.ENOUGH,
    ) -> traffic.Answer | None:
        """Asks the server at `address` and `port` from here; `None` if no answer comes."""
        ask = traffic.ask_tcp if protocol == "tcp" else traffic.ask_udp
        return ask(self.netns, address, port, source=source, timeout=timeout)

    def stream(self, address: str, port: int) -> traffic.Stream:
        """A TCP connection from here, closed at the host's end at the latest."""
        stream = traffic.Stream(self.netns, address, port)
        self.host.on_close(stream.close)
        return stream

    def datagrams(self, address: str, port: int) -> traffic.Datagrams:
        """A UDP socket here that asks the server at `address` and `port`."""
        datagrams = traffic.Datagrams(self.netns, address, port)
        self.host.on_close(datagrams.close)
        return datagrams


class Container:
    """A container that runs on a host, with what a test asks of it."""

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.id = name
        self.pid = host.pid(name)
        self.place = host.place(name)

    @property
    def veth(self) -> str:
        """The name that the host end of its first veth pair has by contract."""
        return f"netnsv0-{self.pid}"

    @property
    def address(self) -> str:
        """Its IPv4 address on `eth0`."""
        return next(
            address.split("/")[0] for address in self.place.addresses() if ":" not in address
        )

    def serve(
        self, *, tcp: tuple[int, ...] = (), udp: tuple[int, ...] = (), address: str = ""
    ) -> traffic.Echo:
        """As :meth:`Place.serve`, in its network namespace."""
        return self.place.serve(tcp=tcp, udp=udp, address=address)

    def reach(
        self,
        address: str,
        port: int,
        protocol: Literal["tcp", "udp"] = "tcp",
        *,
        timeout: float = traffic.ENOUGH,
    ) -> traffic.Answer | None:
        """As :meth:`Place.reach`, from its network namespace."""
        return self.place.reach(address, port, protocol, timeout=timeout)

    def exec(self, *argv: str, check: bool = True) -> Done:
        """`runc exec` in it."""
        return self.host.runc("exec", self.id, *argv, check=check)

    def row(self) -> Json:
        """Its row of `watcher ls --json`."""
        return self.host.ls()[self.id]


class Host:
    """See the module's docstring.

    Args:
        rootfs: the root file system of its containers (:func:`bundles.make_rootfs`).
        config: TOML added to its `watcher.toml`, which sets its directories and its root already.
            May begin with keys of `[[root]]`.

    Attributes:
        program: the sources that `watcher` is run from, a directory or an archive of a release's.
    """

    def __init__(self, rootfs: Path, config: str = "") -> None:
        self.rootfs = rootfs
        self.base = Path(mkdtemp(prefix=f"watcher-test-{os.getpid()}-"))
        self.base.chmod(0o755)
        self.cgroup = f"watcher-test-{os.getpid()}-{next(_numbers)}"
        self.root = self.base / "runc"
        self.state_dir = self.base / "state"
        self.run_dir = self.base / "run"
        self.netns_dir = self.base / "netns"
        self.bundles = self.base / "bundles"
        self.config = self.base / "watcher.toml"
        self.program = REPOSITORY
        (self.base / "sys").mkdir()
        self.configure(config)
        self._on_close = contextlib.ExitStack()
        self._before_close = contextlib.ExitStack()
        self._services: list[Service] = []
        self._places: dict[str, Place] = {}
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", *_NAMESPACES, "sh", "-ec", _SETUP, "host", str(self.base)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._on_close.callback(self._end_holder)
        assert self._holder.stdout is not None
        line = self._holder.stdout.readline()
        assert line == "ready\n", "the host could not be made"
        self._first = _children(self._holder.pid)[0]
        self._proc = Path(f"/proc/{self._first}/root/proc")
        self.here = self._add_place("host", Path(f"/proc/{self._first}/ns/net"))
        self.beyond = self._add_place("beyond", self.seen(self.base / "beyond"))

    def _end_holder(self) -> None:
        for state in CGROUPS.glob(f"freezer/{self.cgroup}/**/freezer.state"):
            state.write_text("THAWED")
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.stdout.close()
        self._holder.wait()

    def close(self) -> None:
        """Ends everything of this host, however it is."""
        self._before_close.close()
        self._on_close.close()
        _remove_cgroups(self.cgroup)
        shutil.rmtree(self.base)

    def on_close(self, callback: Callable[[], None]) -> None:
        """Has `callback` called before this host ends, the last one first."""
        self._on_close.callback(callback)

    def before_close(self, callback: Callable[[], None]) -> None:
        """Has `callback` called before those of :meth:`on_close`: else no process could end."""
        self._before_close.callback(callback)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- what is there -------------------------------------------------------------------------

    def seen(self, path: Path) -> Path:
        """`path` of this host's mount namespace as this process can open it."""
        return Path(f"/proc/{self._first}/root{path}")

    def _add_place(self, name: str, path: Path) -> Place:
        place = Place(self, name, path)
        self.on_close(place.close)
        return place

    def place(self, name: str) -> Place:
        """The network namespace of `host`, of `beyond`, or of a container now."""
        if name == "host":
            return self.here
        if name == "beyond":
            return self.beyond
        return self._add_place(name, self._proc / str(self.pid(name)) / "ns/net")

    def machine(self, name: str, subnet: str) -> Place:
        """Another machine, on a link of its own to this host, with its default route by it.

        The host has the first address of `subnet` on its link `name`, the machine the second.
        """
        file = self.base / name
        net = ip_network(subnet)
        ours, theirs = f"{net[1]}/{net.prefixlen}", f"{net[2]}/{net.prefixlen}"
        self.command(
            "sh",
            "-ec",
            f"""touch {file}
            unshare --net={file} ip -batch - <<END
link set lo up
link add uplink type veth peer name {name} netns 1
link set uplink up
addr add {theirs} dev uplink
END
            ip link set {name} up
            ip addr add {ours} dev {name}
            nsenter --net={file} ip route add default via {net[1]}""",
        )
        return self._add_place(name, self.seen(file))

    # --- commands ------------------------------------------------------------------------------

    def popen(
        self,
        argv: Sequence[str],
        *,
        netns: Place | None = None,
        directory: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[str] | None = subprocess.DEVNULL,
        stdout: int | IO[str] | None = None,
        stderr: int | IO[str] | None = None,
    ) -> subprocess.Popen[str]:
        """Starts a command on this host, in a session of its own.

        The process is `nsenter`, which ends as the command ends; :func:`_children` has its pid.
        """
        place = self.here if netns is None else netns
        namespaces = [f"--target={self._first}", "--mount", "--pid", f"--net={place.file}"]
        return subprocess.Popen(
            ["nsenter", *namespaces, f"--wd={self.seen(directory or self.base)}", "--", *argv],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **(env or {})},
            start_new_session=True,
            text=True,
        )

    def command(
        self,
        *argv: str,
        check: bool = True,
        stdin: str | None = None,
        netns: Place | None = None,
        directory: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Done:
        """Runs a command on this host, or in another network namespace of it, to its end.

        Raises:
            AssertionError: if it fails and `check` is set, or is not done after `timeout` seconds.
        """
        with self.popen(
            argv,
            netns=netns,
            directory=directory,
            env=env,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                stdout, stderr = process.communicate(stdin, timeout)
            except subprocess.TimeoutExpired:
                end(process)
                stdout, stderr = process.communicate()
                raise AssertionError(
                    f"{' '.join(argv)} is not done after {timeout} s: {stdout}{stderr}"
                ) from None
        done = subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)
        assert not check or done.returncode == 0, (
            f"{' '.join(argv)} exits {done.returncode}: {done.stdout}{done.stderr}"
        )
        return done

    def ip(self, *args: str) -> Any:
        """What `ip -json -details` prints on this host, read."""
        return self.here.ip(*args)

    def sysctl(self, name: str) -> str:
        """The value of `/proc/sys/<name>` on this host."""
        return self.command("cat", f"/proc/sys/{name}").stdout.strip()

    def nft(self, *args: str) -> Done:
        """Runs `nft`."""
        return self.command("nft", *args)

    def nft_list(self) -> list[Json]:
        """The whole ruleset, as `nft -j` prints it."""
        output = self.nft("--json", "list", "ruleset").stdout
        ruleset: list[Json] = json.loads(output)["nftables"]
        return ruleset

    # --- runc ----------------------------------------------------------------------------------

    def runc(self, *args: str, check: bool = True, root: Path | None = None) -> Done:
        """Runs `runc --root …`; what a container of it prints goes to its bundle's `output`."""
        return self.command("runc", "--root", str(root or self.root), *args, check=check)

    def runc_default(self, *args: str) -> None:
        """Runs `runc` with its own default root, `/run/runc`, which a host has for itself."""
        with self.popen(["runc", *args], stdout=subprocess.DEVNULL) as process:
            assert process.wait(60) == 0

    def bundle(
        self,
        name: str,
        args: Sequence[str] = bundles.FOREVER,
        *,
        annotations: Mapping[str, str] | None = None,
        ports: str = "",
        netns_path: str | Path | None = None,
        user_namespace: bool = False,
        edit: Callable[[bundles.Spec], object] = lambda _: None,
    ) -> Path:
        """Makes a container's bundle, or makes it anew.

        Args:
            name: the container's id.
            args: its program.
            annotations: its annotations; `ports` is one more, `io.watcher.ports`.
            ports: see there.
            netns_path: `None` for a network namespace of its own, `host`, or a namespace to join.
            user_namespace: whether it has a user namespace of its own.
            edit: called with the specification before that is written.
        """
        asked = dict(annotations or {})
        if ports:
            asked["io.watcher.ports"] = ports
        spec = bundles.make_spec(
            self.rootfs,
            tuple(args),
            annotations=asked,
            netns_path=None if netns_path is None else str(netns_path),
            cgroup=f"/{self.cgroup}/{name}",
            user_namespace=user_namespace,
        )
        edit(spec)
        return bundles.write_bundle(self.bundles / name, spec)

    def launch(
        self,
        verb: Literal["run", "create"],
        name: str,
        *options: str,
        check: bool = True,
        root: Path | None = None,
    ) -> Done:
        """`runc run` or `runc create` of a bundle that is there.

        A container keeps the files that runc was given, so they are files, not pipes. What it has
        printed until runc ends is in the result; see :meth:`output` for what it prints later.
        """
        process = self.launching(verb, name, *options, root=root)
        return self.launched(process, name, check=check)

    def launching(
        self,
        verb: Literal["run", "create"],
        name: str,
        *options: str,
        root: Path | None = None,
    ) -> subprocess.Popen[str]:
        """Begins what :meth:`launch` does; :meth:`launched` waits for its end."""
        command = ["runc", "--root", str(root or self.root), verb, *options]
        command += ["--bundle", str(self.bundles / name), name]
        output, errors = self.bundles / name / "output", self.bundles / name / "errors"
        with output.open("w") as out, errors.open("w") as err:
            process = self.popen(command, stdout=out, stderr=err, directory=self.bundles / name)
        self.on_close(lambda: end(process))
        return process

    def launched(
        self, process: subprocess.Popen[str], name: str, *, check: bool = True, timeout: float = 60
    ) -> Done:
        """Waits for the end of a runc that :meth:`launching` began."""
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"runc of {name} is not done after {timeout} s") from None
        output, errors = self.output(name), (self.bundles / name / "errors").read_text()
        assert not check or status == 0, f"runc of {name} exits {status}: {output}{errors}"
        return subprocess.CompletedProcess(process.args, status, output, errors)

    def output(self, name: str) -> str:
        """What a container has printed so far."""
        return (self.bundles / name / "output").read_text()

    def run(self, name: str, args: Sequence[str] = bundles.FOREVER, **bundle: Any) -> Container:
        """Makes a bundle (see :meth:`bundle`), runs it with `runc run -d`, returns it."""
        self.bundle(name, args, **bundle)
        self.launch("run", name, "--detach")
        return Container(self, name)

    def run_to_end(
        self,
        name: str,
        args: Sequence[str],
        *,
        check: bool = True,
        **bundle: Any,
    ) -> Done:
        """Makes a bundle, runs it with `runc run` in the foreground, returns how it ended."""
        self.bundle(name, args, **bundle)
        return self.launch("run", name, check=check)

    def create(self, name: str, args: Sequence[str] = bundles.FOREVER, **bundle: Any) -> Container:
        """Makes a bundle and a container of it with `runc create`."""
        self.bundle(name, args, **bundle)
        self.launch("create", name)
        return Container(self, name)

    def start(self, name: str) -> None:
        """`runc start`."""
        self.runc("start", name)

    def kill(self, name: str, signal_name: str = "KILL") -> None:
        """`runc kill`; with `KILL`, waits until its init has ended."""
        pid = self.pid(name)
        self.runc("kill", name, signal_name)
        if signal_name == "KILL":
            eventually(lambda: not (self._proc / str(pid)).exists(), what=f"the end of {name}")

    def delete(self, name: str) -> None:
        """`runc delete --force`."""
        self.runc("delete", "--force", name)

    def pause(self, name: str) -> None:
        """`runc pause`."""
        self.runc("pause", name)

    def resume(self, name: str) -> None:
        """`runc resume`."""
        self.runc("resume", name)

    def state(self, name: str) -> Json:
        """What `runc state` prints."""
        state: Json = json.loads(self.runc("state", name).stdout)
        return state

    def pid(self, name: str) -> int:
        """The pid of a container's init, from its `state.json`."""
        state = json.loads((self.root / name / "state.json").read_text())
        pid: int = state["init_process_pid"]
        return pid

    def container(self, name: str) -> Container:
        """A container that runs."""
        return Container(self, name)

    # --- the watcher ---------------------------------------------------------------------------

    def configure(self, config: str = "") -> None:
        """Writes `watcher.toml` anew; see the class for `config`."""
        self.config.write_text(
            f"state_dir = {toml(str(self.state_dir))}\n"
            f"run_dir = {toml(str(self.run_dir))}\n"
            f"netns_dir = {toml(str(self.netns_dir))}\n\n"
            f"[[root]]\npath = {toml(str(self.root))}\n{config}\n"
        )

    def watcher_command(self, *args: str) -> list[str]:
        """The words of a command line of `watcher` with this host's configuration."""
        script = Path(sys.executable).parent / "watcher"
        program = [str(script)] if script.exists() else [sys.executable, "-m", "watcher"]
        return [*program, "--config", str(self.config), *args]

    @property
    def watcher_env(self) -> dict[str, str]:
        """What has `watcher` run from :attr:`program`, installed or not."""
        return {"PYTHONPATH": str(self.program)}

    def watcher(self, *args: str, check: bool = True, timeout: float = 60) -> Done:
        """Runs `watcher` to its end, warm if it is that of this tree (:mod:`warm`).

        Raises:
            AssertionError: as :meth:`command`.
        """
        if self.program != REPOSITORY:
            return self.command(
                *self.watcher_command(*args), check=check, env=self.watcher_env, timeout=timeout
            )
        argv = ["--config", str(self.config), *args]
        status, stdout, stderr = warm().run(
            argv, first=self._first, netns=self.here.file, directory=self.seen(self.base),
            timeout=timeout,
        )  # fmt: skip
        said = f"{stdout}{stderr}"
        assert status is not None, f"watcher {' '.join(args)} is not done after {timeout} s: {said}"
        assert not check or status == 0, f"watcher {' '.join(args)} exits {status}: {said}"
        return subprocess.CompletedProcess(argv, status, stdout, stderr)

    def ls(self) -> dict[str, Json]:
        """The rows of `watcher ls --json` by container id."""
        rows: list[Json] = json.loads(self.watcher("ls", "--json").stdout)
        by_id = {row["id"]: row for row in rows}
        assert len(by_id) == len(rows), f"a container is listed twice: {rows}"
        return by_id

    def inspect(self, name: str) -> Json:
        """What `watcher inspect` prints."""
        inspected: Json = json.loads(self.watcher("inspect", name).stdout)
        return inspected

    def status(self, name: str) -> str:
        """A container's STATUS of `watcher ls`; empty if it is not listed."""
        row = self.ls().get(name)
        return "" if row is None else str(row["status"])

    def service(
        self, *args: str, ready: bool = True, env: Mapping[str, str] | None = None
    ) -> Service:
        """Starts `watcher run` and waits until it is ready; it ends with the host at the latest."""
        service = Service(self, args, env)
        self._services.append(service)
        self.on_close(service.end)
        service.start(ready=ready)
        return service

    @property
    def served(self) -> bool:
        """Whether a service of :meth:`service` runs."""
        return any(service.running for service in self._services)

    @contextlib.contextmanager
    def unwritable(self) -> Iterator[int]:
        """Has the writers' lock, as one does who is stuck: nothing can be attached meanwhile.

        Yields the inode number of the lock's file, which proc_locks(5) names.
        """
        with (self.run_dir / WRITERS).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield os.fstat(file.fileno()).st_ino

    def settle(self) -> None:
        """Runs `watcher sync` where no service runs: somebody has to tell the watcher."""
        if not self.served:
            self.watcher("sync")

    def attached(self, name: str, status: str = "attached") -> Container:
        """Waits until a container has its network and `watcher ls` says so.

        With a service this waits for it; without one, `watcher sync` does the work.
        """
        container = Container(self, name)
        self.settle()
        routes = self._proc / str(container.pid) / "net/route"
        eventually(
            lambda: any(line.split()[1] == "00000000" for line in routes.read_text().splitlines()),
            what=f"the default route of {name}",
        )

        def has_status() -> bool:
            row = self.ls()[name]
            assert row["status"] == status, row
            return True

        eventually(has_status, what=f"the status {status} of {name}")
        return container

    def attach(self, name: str, args: Sequence[str] = bundles.FOREVER, **bundle: Any) -> Container:
        """:meth:`run`, then :meth:`attached`."""
        self.run(name, args, **bundle)
        return self.attached(name)

    def share(
        self, name: str, of: str, args: Sequence[str] = bundles.FOREVER, **bundle: Any
    ) -> Container:
        """Runs a container in another one's network namespace, and waits until it is listed so."""
        self.run(name, args, netns_path=self.netns_dir / of, **bundle)
        return self.attached(name, "shared")

    def fails(self, name: str) -> str:
        """Waits until `watcher ls` lists a container as failed; returns the reason.

        Where no service runs, `watcher sync` has to exit 1 and to name what it could not do.
        """
        if not self.served:
            done = self.watcher("sync", check=False)
            assert done.returncode == 1, done
            assert name in done.stderr, done.stderr
            assert "Traceback" not in done.stderr, done.stderr

        def failed() -> bool:
            row = self.ls()[name]
            assert row["status"] == "failed", row
            return True

        eventually(failed, what=f"the failure of {name}")
        return str(self.inspect(name)["reason"])

    def gone(self, container: Container) -> None:
        """Waits until nothing is left of a container that has vanished."""
        self.settle()
        eventually(
            lambda: self._assert_gone(container),
            what=f"the removal of all that was {container.id}'s",
        )

    def _assert_gone(self, container: Container) -> bool:
        assert container.veth not in self.here.links()
        assert container.id not in self.pins()
        assert container.id not in self.leases().values()
        return True

    # --- what is left --------------------------------------------------------------------------

    def pins(self) -> set[str]:
        """The names below the directory of pins."""
        directory = self.seen(self.netns_dir)
        return {path.name for path in directory.iterdir()} if directory.exists() else set()

    def pin_inode(self, name: str) -> int:
        """Number of the namespace that a pin leads to."""
        return self.seen(self.netns_dir / name).stat().st_ino

    def veths(self) -> set[str]:
        """The host ends of veth pairs that are the watcher's."""
        return {name for name in self.here.links() if name.startswith("netnsv")}

    def elements(self) -> list[str]:
        """The elements of the watcher's nftables sets and maps that are of one sandbox."""
        return [
            f"{entry['name']}: {json.dumps(element)}"
            for item in self.nft_list()
            for kind, entry in item.items()
            if kind in ("set", "map") and entry["table"] == "watcher"
            for element in entry.get("elem", ())
            if any(_of_a_sandbox(leaf) for leaf in _leaves(element))
        ]

    def leases(self) -> dict[str, str]:
        """The addresses that `leases.db` holds as taken, each with the container that has it."""
        file = self.state_dir / "leases.db"
        if not file.exists():
            return {}
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            return dict(
                database.execute("SELECT address, id FROM address WHERE sandbox IS NOT NULL")
            )

    def leftovers(self) -> list[str]:
        """What of any sandbox is on this host: veth pairs, pins, nftables elements, leases."""
        return [
            *sorted(self.veths()),
            *(f"pin {name}" for name in sorted(self.pins())),
            *self.elements(),
            *(f"lease {address} of {name}" for address, name in self.leases().items()),
        ]

    def empty(self) -> None:
        """Waits until nothing of any sandbox is left."""
        self.settle()

        def nothing_left() -> bool:
            left = self.leftovers()
            assert not left, left
            return True

        eventually(nothing_left)

    def logs(self) -> str:
        """What every service of this host has logged."""
        return "".join(service.log_text() for service in self._services)


class Service:
    """`watcher run` on a host, as systemd starts it: told to be ready, stopped by SIGTERM.

    Args:
        host: the host.
        args: more options of `watcher`.
        env: more of its environment.
    """

    def __init__(
        self, host: Host, args: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> None:
        self.host = host
        self._args = args
        self._env = env or {}
        self._process: subprocess.Popen[str] | None = None
        self._log = host.base / f"service-{next(_numbers)}.log"
        self._manager: _Manager | None = None

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, ready: bool = True) -> None:
        """Starts it; with `ready`, waits until it has said that it is."""
        assert not self.running
        self._manager = _Manager(self.host.base / "notify")
        with self._log.open("a") as log:
            self._process = self.host.popen(
                self.host.watcher_command("--log-format", "json", *self._args, "run"),
                env={
                    **self.host.watcher_env,
                    "NOTIFY_SOCKET": str(self._manager.path),
                    **self._env,
                },
                stdout=log,
                stderr=log,
            )
        if ready:
            self.notified("READY=1")

    def notified(self, assignment: str, times: int = 1) -> None:
        """Waits until it has notified its manager of `assignment` (sd_notify(3)) so many times."""
        manager = self._manager
        assert manager is not None
        deadline = time.monotonic() + PATIENCE
        while not manager.wait(assignment, times, 0.2):
            assert self.running, f"watcher run has ended:\n{self.log_text()}"
            assert time.monotonic() < deadline, f"no {assignment}:\n{self.log_text()}"

    @property
    def pid(self) -> int:
        """Its pid outside the host's process namespace."""
        assert self._process is not None
        return _children(self._process.pid)[0]

    @property
    def inner_pid(self) -> int:
        """Its pid in the host's process namespace."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("NSpid:")[2].split("\n")[0].split()[-1])

    def times_notified(self, assignment: str) -> int:
        """How often it has notified its manager of `assignment` by now."""
        assert self._manager is not None
        return self._manager.count(assignment)

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal; with SIGSTOP, waits until all of its threads have stopped."""
        assert self._process is not None
        os.kill(self.pid, number)
        # `nsenter` stops with what it has started, and has to go on with it.
        if number == signal.SIGSTOP:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)
        if number == signal.SIGCONT:
            os.kill(self._process.pid, number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Waits for its end and returns its exit status."""
        assert self._process is not None
        with self._process:
            status = self._process.wait(timeout)
        if self._manager is not None:
            self._manager.close()
        return status

    def stop(self) -> None:
        """Stops it as systemd does, and expects that it ends well."""
        self.signal(signal.SIGTERM)
        status = self.wait()
        assert status == 0, f"watcher run exits {status}:\n{self.log_text()}"

    def kill9(self) -> None:
        """Kills it."""
        self.signal(signal.SIGKILL)
        self.wait()

    def restart(self) -> None:
        """Stops it and starts it again."""
        self.stop()
        self.start()

    def end(self) -> None:
        """Ends it, whether it runs or not."""
        if self._process is None:
            return
        end(self._process)
        self.wait()

    def log_text(self) -> str:
        """What it has written so far."""
        return self._log.read_text() if self._log.exists() else ""

    def log(self) -> list[Json]:
        """The entries of its log."""
        entries: list[Json] = []
        for line in self.log_text().splitlines():
            try:
                entries.append(json.loads(line))
            except ValueError:
                raise AssertionError(f"not a line of JSON in the log: {line}") from None
        return entries

    def warnings(self) -> list[Json]:
        """The entries of its log that are warnings or worse."""
        return [
            entry for entry in self.log() if entry.get("level") in ("warning", "error", "critical")
        ]

    def logged(self, *words: str, level: str = "") -> Json:
        """Waits for an entry of its log with all of `words` somewhere in it."""

        def entry() -> Json:
            return next(
                entry
                for entry in self.log()
                if all(word in json.dumps(entry, ensure_ascii=False) for word in words)
                and level in ("", entry.get("level"))
            )

        def found() -> Json:
            try:
                return entry()
            except StopIteration:
                raise AssertionError(f"no entry with {words}:\n{self.log_text()}") from None

        return eventually(found, what=f"a log entry with {words}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class _Manager:
    """What a service manager hears from its service by the socket at `path` (sd_notify(3))."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._heard: list[str] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._listen, name="manager", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while data := self._socket.recv(4096):
            with self._news:
                self._heard += data.decode().split("\n")
                self._news.notify_all()

    def wait(self, assignment: str, times: int, timeout: float) -> bool:
        """Whether it has heard `assignment` so many times within `timeout` seconds."""
        with self._news:
            return self._news.wait_for(
                lambda: self._heard.count(assignment) >= times, timeout=timeout
            )

    def count(self, assignment: str) -> int:
        """How often it has heard `assignment`."""
        with self._news:
            return self._heard.count(assignment)

    def close(self) -> None:
        """Hears no more; may be called twice."""
        if self._thread.is_alive():
            self._socket.shutdown(socket.SHUT_RD)
            self._thread.join()
        self._socket.close()


def end(process: subprocess.Popen[str]) -> None:
    """Kills a command of :meth:`Host.popen`, if it runs, and waits for its end.

    `nsenter` is left to reap what it has started: it is the only one that does so at once.
    """
    while process.poll() is None:
        with contextlib.suppress(OSError):
            for pid in _children(process.pid):
                os.kill(pid, signal.SIGKILL)
            os.kill(process.pid, signal.SIGCONT)  # it stops with what it has started
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def _remove_cgroups(name: str) -> None:
    tops = [path for path in (CGROUPS / name, *CGROUPS.glob(f"*/{name}")) if path.exists()]
    for top in tops:
        for directory, _, _ in os.walk(top, topdown=False):

            def removed(directory: str = directory) -> bool:
                with contextlib.suppress(FileNotFoundError):
                    Path(directory).rmdir()
                return True

            eventually(removed, what=f"an empty cgroup {directory}")


def _leaves(element: object) -> Iterator[object]:
    if isinstance(element, Mapping):
        for key, value in element.items():
            if key not in ("timeout", "expires", "comment", "packets", "bytes"):
                yield from _leaves(value)
    elif isinstance(element, list):
        for value in element:
            yield from _leaves(value)
    else:
        yield element


def _of_a_sandbox(leaf: object) -> bool:
    if isinstance(leaf, int):
        return True
    if not isinstance(leaf, str):
        return False
    if leaf.startswith("netnsv"):
        return True
    try:
        address = ip_address(leaf)
    except ValueError:
        return False
    subnet = ip_network(SUBNET)
    return address in subnet and address not in (subnet[0], subnet[1])
