"""Ten thousand containers come and go, and then everything is as it was.

`python -m tests.soak 10000` (`make soak`), on a throwaway host with a real runc. In the first half
the service is killed and stopped again and again; in the second one it runs through, and what it
uses is measured: descriptors, threads and memory have to be flat. At the end of each half links,
elements, pins and leases have to be what they were before.
"""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

from tests.support import bundles
from tests.support.host import Host, Service
from tests.support.pictures import Picture, difference, take
from tests.support.waiting import eventually

AT_ONCE: Final = 10
RESTARTS: Final = 20
REFUSALS: Final = 100
SAMPLES: Final = 10
NETWORK: Final = '[network.default]\nsubnets = ["172.19.0.0/22"]\n'
"""Each address is leased several times: what is remembered of them is full in the first tenth."""

LEEWAY: Final = 1 << 10
"""KiB by which memory may be more at the end than after the first tenth."""


@dataclass(frozen=True)
class Use:
    """What a service uses at a moment: descriptors, threads, and KiB of memory."""

    descriptors: int
    threads: int
    memory: int

    @classmethod
    def of(cls, service: Service) -> Use:
        """That of `service` now."""
        process = Path(f"/proc/{service.pid}")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        return cls(
            len(list((process / "fd").iterdir())),
            int(status["Threads"]),
            int(status["RssAnon"].split()[0]),
        )


def come_and_go(host: Host, number: int) -> None:
    """Ten containers come at once and go: with ports, none, an error, a sidecar; killed, ended."""
    names = [f"c{number + i}" for i in range(AT_ONCE)]
    running = []
    for i, name in enumerate(names):
        asks: dict[str, Any] = {"ports": f"{8000 + i}:80"} if i % 2 else {}
        if i == AT_ONCE - 1:
            asks = {"annotations": {"io.watcher.ip": "10.9.9.9"}}
        ends = ("true",) if i == AT_ONCE // 2 else bundles.FOREVER
        host.bundle(name, ends, **asks)
        running.append(host.launching("run", name, "--detach"))
    for name, process in zip(names, running, strict=True):
        host.launched(process, name, check=False)
    if (host.root / names[0]).exists() and host.served:
        host.bundle("sidecar", netns_path=f"/proc/{host.pid(names[0])}/ns/net")
        host.launch("run", "sidecar", "--detach")
        names.append("sidecar")
    present = [name for name in names if (host.root / name).exists()]
    host.command(
        "sh",
        "-c",
        "\n".join(f"runc --root {host.root} delete --force {name} &" for name in present)
        + "\nwait",
    )
    for name in names:
        shutil.rmtree(host.bundles / name)


def quiet(host: Host) -> bool:
    """Whether nothing of any sandbox is left."""
    left = host.leftovers()
    assert not left, left
    return True


def as_before(host: Host, before: Picture) -> bool:
    """Whether all is as it was, but for the refusals: the last hundred are kept, and no more."""
    lines = difference(take(host), before).splitlines()
    refusals = [line for line in lines if line.startswith("leases: failure: ")]
    kept = [line for line in refusals if line.startswith("leases: failure: too much")]
    assert len(kept) <= REFUSALS, kept
    others = [line for line in lines if line not in refusals]
    assert not others, others
    return True


def first_half(host: Host, count: int) -> None:
    """With a restart now and then, in the middle of things."""
    service = host.service(cold=True)
    every = max(count // RESTARTS // AT_ONCE, 1) * AT_ONCE
    for number in range(0, count, AT_ONCE):
        if number and number % every == 0:
            if number // every % 2:
                service.kill9()
                come_and_go(host, number)  # while nobody looks
                service.start()
            else:
                service.restart()
        come_and_go(host, number)
    eventually(lambda: quiet(host), 120)
    service.stop()


def second_half(host: Host, count: int) -> list[Use]:
    """In one go; what the service used at each tenth."""
    uses = []
    every = max(count // SAMPLES // AT_ONCE, 1) * AT_ONCE
    service = host.service(cold=True)
    for number in range(0, count, AT_ONCE):
        come_and_go(host, number)
        if (number + AT_ONCE) % every == 0:
            eventually(lambda: quiet(host), 120)
            uses.append(Use.of(service))
            tell(f"{number + AT_ONCE}: {uses[-1]}")
    assert "Traceback" not in service.log_text()
    service.stop()
    return uses


def tell(line: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(count: int) -> None:
    """Has `count` containers come and go; fails if anything has grown."""
    begun = time.monotonic()
    directory = Path(mkdtemp(prefix="watcher-rootfs-"))
    directory.chmod(0o755)
    try:
        with Host(bundles.make_rootfs(directory), NETWORK) as host:
            service = host.service(cold=True)
            come_and_go(host, 0)
            eventually(lambda: quiet(host))
            service.stop()
            before = take(host)
            first_half(host, count // 2)
            eventually(lambda: as_before(host, before))
            uses = second_half(host, count - count // 2)
            eventually(lambda: as_before(host, before))
            assert host.watcher("sync").stdout == "nothing to do\n"
            assert len({(use.descriptors, use.threads) for use in uses}) == 1, uses
            assert uses[-1].memory <= uses[0].memory + LEEWAY, uses
    finally:
        shutil.rmtree(directory)
    tell(f"{count} containers in {time.monotonic() - begun:.0f} s: all is as it was")


if __name__ == "__main__":
    main(int(sys.argv[1]))
