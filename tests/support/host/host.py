"""What becomes of a container on a host: a test says it, and this waits for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.support import bundles
from tests.support.host.containers import Container
from tests.support.host.traces import Traces
from tests.support.waiting import eventually


class Host(Traces):
    """A host, and the waiting for what is to come true there; see :mod:`tests.support.host`."""

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

    def forgotten(self, name: str) -> None:
        """Waits until all that was a container's alone is gone; its sandbox may stay.

        `watcher ls` shows a container no more as soon as its root has it no more.
        """
        self.settle()
        eventually(lambda: self._assert_forgotten(name), what=f"that {name} is forgotten")

    def _assert_forgotten(self, name: str) -> bool:
        members, links = self.known()  # it is dropped last, but for links that are cut off by then
        assert name not in members
        assert self.veths() <= links
        return True

    def empty(self) -> None:
        """Waits until nothing of any sandbox is left."""
        self.settle()

        def nothing_left() -> bool:
            left = self.leftovers()
            assert not left, left
            return True

        eventually(nothing_left)


type HostMaker = Callable[..., Host]
"""Makes a host with so much more in its `watcher.toml`."""
