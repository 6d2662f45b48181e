"""A machine of its own: namespaces, other machines beside it, and commands that run there.

Network, mount and process namespaces, and a machine beyond its uplink. Everything of it ends with
its first process, whose end is the end of the pipe that this one holds.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any, ClassVar, Final, Self

from tests.support.host import cgroups
from tests.support.host.place import Json, Place
from tests.support.processes import Done, children, end

_NAMESPACES: Final = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
LINKS: Final = """
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
nsenter --net="$base/beyond" ip link show dev uplink >/dev/null
"""
"""Makes the uplink and the machine beyond it, whose network namespace is `$base/beyond`.

To ask for a link has the kernel see its carrier at once (`rtnl_getlink` in `net/core/rtnetlink.c`).
Until then, the end that was up first loses what it sends, such as the answer to the first ARP
request, which is sent again after a second.
"""

_SETUP: Final = """
base=$1
mount -t tmpfs tmpfs /run
mknod -m 666 "$base/null" c 1 3
mount --bind "$base/null" /dev/null
mount -t sysfs sysfs "$base/sys"
mount --rbind /sys/fs/cgroup "$base/sys/fs/cgroup"
mount --move "$base/sys" /sys
eval "$2"
echo ready
exec env --ignore-signal=CHLD cat
"""
# A first process that ignores the end of its children has the kernel reap them, as init would.

_numbers = itertools.count(1)


class Machine:
    """See the module's docstring.

    Attributes:
        base: a directory of its own, seen under the same path on it.
        cgroup: the name of the cgroup that all its containers are in.
        here: its network namespace.
        beyond: the machine at the other end of its uplink.
        links: the script that makes its links.
    """

    links: ClassVar[str] = LINKS

    def __init__(self) -> None:
        self.base = self._make_base()
        self.cgroup = f"watcher-test-{os.getpid()}-{next(_numbers)}"
        self._on_close = contextlib.ExitStack()
        self._before_close = contextlib.ExitStack()
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _make_base(self) -> Path:
        base = Path(mkdtemp(prefix=f"watcher-test-{os.getpid()}-"))
        base.chmod(0o755)
        return base

    def _open(self) -> None:
        (self.base / "sys").mkdir()
        self._holder = subprocess.Popen(
            ["unshare", *_NAMESPACES, "sh", "-ec", _SETUP, "host", str(self.base), self.links],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._on_close.callback(self._end_holder)
        assert self._holder.stdout is not None
        line = self._holder.stdout.readline()
        assert line == "ready\n", "the host could not be made"
        self._enter(children(self._holder.pid)[0])

    def _enter(self, first: int) -> None:
        """This host is that of the process `first`, its first one."""
        self._first = first
        self._proc = Path(f"/proc/{first}/root/proc")
        self.here = self.add_place("host", Path(f"/proc/{first}/ns/net"))
        self.beyond = self.add_place("beyond", self._beyond_file())

    def _beyond_file(self) -> Path:
        return self.seen(self.base / "beyond")

    def _end_holder(self) -> None:
        cgroups.thaw(self.cgroup)
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.stdout.close()
        self._holder.wait()

    def close(self) -> None:
        """Ends everything of this host, however it is."""
        self._before_close.close()
        self._on_close.close()
        cgroups.remove(self.cgroup)
        shutil.rmtree(self.base)

    def on_close(self, callback: Callable[[], object]) -> None:
        """Has `callback` called before this host ends, the last one first."""
        self._on_close.callback(callback)

    def before_close(self, callback: Callable[[], object]) -> None:
        """Has `callback` called before those of :meth:`on_close`: else no process could end."""
        self._before_close.callback(callback)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- network namespaces --------------------------------------------------------------------

    def seen(self, path: Path) -> Path:
        """`path` of this host's mount namespace as this process can open it."""
        return Path(f"/proc/{self._first}/root{path}")

    def add_place(self, name: str, path: Path) -> Place:
        place = Place(self, name, path)
        self.on_close(place.close)
        return place

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
            nsenter --net={file} ip -batch - >/dev/null <<END
route add default via {net[1]}
link show dev uplink
END""",
        )
        return self.add_place(name, self.seen(file))

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

        The process is `nsenter`, which ends as the command ends; :func:`children` has its pid.
        """
        place = self.here if netns is None else netns
        namespaces = [f"--target={self._first}", "--mount", "--pid", f"--net={place.file}"]
        with contextlib.ExitStack() as opened:
            if stdin == subprocess.DEVNULL:  # its own: crun makes it that of a container's user
                stdin = opened.enter_context(self.seen(Path("/dev/null")).open())
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
