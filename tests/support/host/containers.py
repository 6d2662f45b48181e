"""Containers of a host: bundles and real runcs, and what a test asks of one that runs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tests.support import bundles, traffic
from tests.support.host.machine import Machine
from tests.support.host.place import Json, Place
from tests.support.processes import Done, end
from tests.support.waiting import eventually


class Container:
    """A container that runs on a host, with what a test asks of it."""

    def __init__(self, host: Containers, name: str) -> None:
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
        found = [address.split("/")[0] for address in self.place.addresses() if ":" not in address]
        assert found, f"{self.id} has no address"
        return found[0]

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


class Containers(Machine):
    """A machine with a runc root.

    Args:
        rootfs: the root file system of its containers (:func:`bundles.make_rootfs`).

    Attributes:
        runtime: the command line of its runtime.
    """

    runtime: tuple[str, ...] = ("runc",)

    def __init__(self, rootfs: Path) -> None:
        super().__init__()
        self.rootfs = rootfs
        self.root = self.base / "runc"
        self.bundles = self.base / "bundles"

    def place(self, name: str) -> Place:
        """The network namespace of `host`, of `beyond`, or of a container now."""
        if name == "host":
            return self.here
        if name == "beyond":
            return self.beyond
        return self.add_place(name, self._proc / str(self.pid(name)) / "ns/net")

    def runc(self, *args: str, check: bool = True, root: Path | None = None) -> Done:
        """Runs `runc --root …`; what a container of it prints goes to its bundle's `output`."""
        return self.command(*self.runtime, "--root", str(root or self.root), *args, check=check)

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
        command = [*self.runtime, "--root", str(root or self.root), verb, *options]
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
        """The pid of a container's init, from runc's `state.json` or crun's `status`."""
        directory = self.seen(self.root / name)
        status = directory / "status"
        if status.exists():
            pid: int = json.loads(status.read_text())["pid"]
        else:
            pid = json.loads((directory / "state.json").read_text())["init_process_pid"]
        return pid

    def container(self, name: str) -> Container:
        """A container that runs."""
        return Container(self, name)
