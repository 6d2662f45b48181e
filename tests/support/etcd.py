"""A real etcd: its members in network namespaces of a machine, their data in its memory."""

from __future__ import annotations

import http.client
import itertools
import json
import signal
import socket
import ssl
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final

from tests.support import traffic
from tests.support.authority import Authority
from tests.support.host.place import Place
from tests.support.processes import Done, Entered
from tests.support.waiting import eventually

CLIENTS: Final = 2379
PEERS: Final = 2380
ROOT: Final = ("root", "the secret of root")
USER: Final = ("watcher", "the secret of watcher")
_SECRET_ROOT: Final = f"{ROOT[0]}:{ROOT[1]}"

_numbers = itertools.count(1)


class Member:
    """One member.

    Attributes:
        name: its name.
        place: the network namespace that it is in.
        address: where it is reached there.
        url: the URL for clients.
    """

    def __init__(self, etcd: Etcd, name: str, place: Place, address: str) -> None:
        self._etcd = etcd
        self.name = name
        self.place = place
        self.address = address
        host = f"[{address}]" if ":" in address else address
        self.url = f"{etcd.scheme}://{host}:{CLIENTS}"
        self.peer = f"http://{host}:{PEERS}"
        self._process: Entered | None = None

    @property
    def data(self) -> Path:
        """The directory of its data, as the machine sees it."""
        return self._etcd.directory / self.name

    @property
    def log(self) -> Path:
        """The file of its log."""
        return self._etcd.files / f"{self.name}.log"

    @property
    def runs(self) -> bool:
        """Whether it was started, and not ended since."""
        return self._process is not None

    def start(self) -> None:
        """Starts it; :meth:`ready` waits until it answers."""
        assert self._process is None, f"{self.name} runs"
        with self.log.open("a") as log:
            process = self.place.host.popen(
                ["etcd", *self._etcd.flags_of(self)], netns=self.place, stdout=log, stderr=log
            )
        self._process = Entered(process)

    def ready(self) -> None:
        """Waits until it answers, and its cluster has a leader."""
        eventually(self.is_healthy, 60, what=f"{self.name} answers")

    def is_healthy(self) -> bool:
        """Whether it answers, and its cluster has a leader."""
        connection = traffic.make_socket(
            self.place.netns, traffic.family_of(self.address), socket.SOCK_STREAM
        )
        connection.settimeout(10)
        client = http.client.HTTPConnection(self.address, CLIENTS)
        try:
            connection.connect((self.address, CLIENTS))
            client.sock = self._etcd.secured(connection, self.address)
            client.request("GET", "/health")
            answer = client.getresponse()
            return answer.status == HTTPStatus.OK and json.loads(answer.read())["health"] == "true"
        finally:
            client.close()
            connection.close()

    def stop(self) -> None:
        """Ends it by SIGTERM."""
        self._signal(signal.SIGTERM)
        self._wait()

    def kill(self) -> None:
        """Ends it by SIGKILL, if it runs."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def pause(self) -> None:
        """Stops it where it is; what connects to it waits."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Has it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, f"{self.name} does not run"
        self._process.signal(number)

    def _wait(self) -> None:
        assert self._process is not None
        self._process.wait(30)
        self._process = None


class Etcd:
    """etcd, which runs, and ends with its machine.

    Args:
        spots: the network namespace and the address of each member, all of one machine.
        tls: clients have to speak TLS, with a certificate of :attr:`authority`.
        auth: clients have to be a user; `watcher` may do what docs/cluster.md has.
        prefix: where that user may read and write.
        flags: more flags of etcd.

    Attributes:
        members: the members.
        flags: more flags of etcd, from its next start on.
        endpoints: their URLs.
        files: the directory of certificates, passwords and logs; it is that on all machines.
        directory: the directory of the data, on the machine of the members.
        ca, cert, key: the files of a client for TLS; empty without.
        user, password_file: of that user; empty without.
    """

    def __init__(
        self,
        *spots: tuple[Place, str],
        tls: bool = False,
        auth: bool = False,
        prefix: str = "/watcher/",
        flags: Sequence[str] = (),
    ) -> None:
        self._machine = spots[0][0].host
        number = next(_numbers)
        self.files = self._machine.base / f"etcd-{number}"
        self.files.mkdir()
        self.directory = Path(f"/run/etcd-{number}")
        self.scheme = "https" if tls else "http"
        self.authority = Authority(self.files / "tls") if tls else None
        self.ca = self.cert = self.key = self.user = self.password_file = ""
        self._server: tuple[Path, Path] | None = None
        if self.authority is not None:
            self.ca = str(self.authority.ca)
            self.cert, self.key = map(str, self.authority.issue("client"))
            self._server = self.authority.issue("server", [*(a for _, a in spots), "127.0.0.1"])
        self.flags = list(flags)
        self._token = f"token-{number}"
        self._auth = False
        self.members = [
            Member(self, f"m{i}", place, address) for i, (place, address) in enumerate(spots)
        ]
        self.endpoints = tuple(member.url for member in self.members)
        self._machine.on_close(self.kill)
        self.start()
        if auth:
            self.authenticate(prefix)

    def flags_of(self, member: Member) -> list[str]:
        """The flags of a member."""
        flags = [
            f"--name={member.name}", f"--data-dir={member.data}", "--unsafe-no-fsync",
            f"--listen-client-urls={member.url}", f"--advertise-client-urls={member.url}",
            f"--listen-peer-urls={member.peer}", f"--initial-advertise-peer-urls={member.peer}",
            f"--initial-cluster={self._initial}", f"--initial-cluster-token={self._token}",
        ]  # fmt: skip
        if self._server is not None:
            cert, key = self._server
            flags += [f"--cert-file={cert}", f"--key-file={key}", "--client-cert-auth",
                      f"--trusted-ca-file={self.ca}"]  # fmt: skip
        return [*flags, *self.flags]

    @property
    def _initial(self) -> str:
        return ",".join(f"{member.name}={member.peer}" for member in self.members)

    def secured(self, connection: socket.socket, address: str) -> socket.socket:
        """A connection with TLS, if clients have to have it."""
        if not self.ca:
            return connection
        context = ssl.create_default_context(cafile=self.ca)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.load_cert_chain(self.cert, self.key)
        return context.wrap_socket(connection, server_hostname=address)

    # --- all members ------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts all members, and waits until they answer."""
        for member in self.members:
            member.start()
        for member in self.members:
            member.ready()

    def stop(self) -> None:
        """Ends all members by SIGTERM."""
        for member in self.members:
            member.stop()

    def kill(self) -> None:
        """Ends all members by SIGKILL, those that run."""
        for member in self.members:
            member.kill()

    def leader(self) -> Member:
        """The member that leads; members of a busy machine may be choosing another one."""
        return eventually(self._leads, what="a member leads")[0]

    def _leads(self) -> list[Member]:
        answers = json.loads(self.ctl("endpoint", "status", "--write-out=json").stdout)
        return [
            member
            for member in self.members
            for answer in answers
            if answer["Endpoint"] == member.url
            and answer["Status"]["leader"] == answer["Status"]["header"]["member_id"]
        ]

    # --- what is in it ----------------------------------------------------------------------------

    def ctl(
        self,
        *args: str,
        user: tuple[str, str] | None = None,
        at: Sequence[Member] = (),
        check: bool = True,
        stdin: str | None = None,
    ) -> Done:
        """Runs `etcdctl`, as root unless `user` says as whom, at all members unless `at` says."""
        members = list(at) or self.members
        words = ["etcdctl", f"--endpoints={','.join(member.url for member in members)}"]
        if self.ca:
            words += [f"--cacert={self.ca}", f"--cert={self.cert}", f"--key={self.key}"]
        if user is not None or self._auth:
            name, password = user or ROOT
            words += [f"--user={name}", f"--password={password}"]
        return members[0].place.run(*words, *args, check=check, stdin=stdin)

    def put(self, key: str, value: str) -> None:
        """Makes or changes a key."""
        self.ctl("put", "--", key, value)

    def put_for_long(self, key: str, value: str) -> str:
        """Makes or changes a key that ends with a lease, which is returned, or in ten minutes."""
        lease: str = self.ctl("lease", "grant", "600").stdout.split()[1]
        self.ctl("put", f"--lease={lease}", "--", key, value)
        return lease

    def get(self, key: str) -> str | None:
        """The value of a key; `None` if there is none."""
        kvs = self._range(key)
        return kvs.get(key)

    def under(self, prefix: str) -> dict[str, str]:
        """All keys with a prefix, and their values."""
        return self._range(prefix, "--prefix")

    def _range(self, key: str, *flags: str) -> dict[str, str]:
        found = self.ctl("get", *flags, "--write-out=fields", "--", key).stdout
        keys = [json.loads(line[8:]) for line in found.splitlines() if line.startswith('"Key" : ')]
        values = [
            json.loads(line[10:]) for line in found.splitlines() if line.startswith('"Value" : ')
        ]
        return dict(zip(keys, values, strict=True))

    def delete(self, key: str, *flags: str) -> None:
        """Deletes a key."""
        self.ctl("del", *flags, "--", key)

    def revision(self) -> int:
        """The revision that it has."""
        return int(
            json.loads(self.ctl("get", "-", "--write-out=json").stdout)["header"]["revision"]
        )

    def compact(self) -> int:
        """Forgets all that was before the present revision, which it returns."""
        revision = self.revision()
        self.ctl("compaction", "--physical", str(revision))
        return revision

    # --- snapshots ------------------------------------------------------------------------------

    def snapshot(self) -> Path:
        """A snapshot of it as it is now, for :meth:`restore`."""
        path = self.directory / f"snapshot-{next(_numbers)}"
        self.ctl("snapshot", "save", str(path), at=self.members[:1])
        return path

    def restore(self, snapshot: Path, *flags: str) -> None:
        """Ends all members, and starts them with what was in a snapshot.

        Args:
            flags: more flags of `etcdutl snapshot restore`.
        """
        self.kill()
        for member in self.members:
            self._machine.command("rm", "-rf", str(member.data))
            self._machine.command(
                "etcdutl", "snapshot", "restore", str(snapshot), f"--data-dir={member.data}",
                f"--name={member.name}", f"--initial-cluster={self._initial}",
                f"--initial-cluster-token={self._token}",
                f"--initial-advertise-peer-urls={member.peer}", *flags,
            )  # fmt: skip
        self.start()

    # --- users ----------------------------------------------------------------------------------

    def authenticate(self, prefix: str = "/watcher/") -> None:
        """Wants a user of all clients from now on."""
        name, password = USER
        self.ctl("user", "add", _SECRET_ROOT)
        self.ctl("user", "grant-role", "root", "root")
        self.ctl("role", "add", "watcher")
        self.ctl("role", "grant-permission", "watcher", "readwrite", prefix, "--prefix")
        self.ctl("user", "add", f"{name}:{password}")
        self.ctl("user", "grant-role", name, "watcher")
        self.ctl("auth", "enable")
        self._auth = True
        self.user = name
        path = self.files / "password"
        path.touch(0o600)
        path.write_text(f"{password}\n")
        self.password_file = str(path)

    def config(self) -> str:
        """The keys of `[cluster]` in `watcher.toml` for it, as lines."""
        words = {
            "ca": self.ca,
            "cert": self.cert,
            "key": self.key,
            "user": self.user,
            "password_file": self.password_file,
        }
        lines = [f"etcd = {json.dumps(self.endpoints)}"]
        return "\n".join(lines + [f"{key} = {json.dumps(v)}" for key, v in words.items() if v])
