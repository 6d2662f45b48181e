"""A container whose address has to be claimed waits, and is told why if it does not get it."""

from __future__ import annotations

import signal
from subprocess import Popen

from tests.support.cluster.whole import Whole
from tests.support.waiting import eventually


def begun(whole: Whole, ip: str) -> Popen[str]:
    """A start on host a that wants an address, under way."""
    a = whole["a"]
    a.bundle("waits", annotations={"io.watcher.ip": ip})
    return a.launching("run", "waits", "--detach")


def told(whole: Whole, process: Popen[str], ip: str, why: str) -> None:
    """Waits until it is refused for that reason, with all that is to be known."""
    done = whole["a"].launched(process, "waits", check=False)
    assert done.returncode != 0, "it has started"
    expected = f'io.watcher.ip = "{ip}": {ip} of network default {why}; see `watcher check`'
    assert expected in done.stderr, done.stderr
    assert 'container "waits"' in done.stderr, done.stderr


def test_etcd_goes_away_while_a_start_waits(whole: Whole) -> None:
    c, etcd = whole["c"], whole.cluster.etcd
    wanted = whole.address_in("c")
    c.serving.signal(signal.SIGSTOP)  # it lends nothing
    process = begun(whole, wanted)
    eventually(lambda: whole.in_etcd("claims"), what="it is asked for")
    for member in etcd.members:
        member.kill()
    told(whole, process, wanted, "is in no block of this host, and etcd does not answer")
    etcd.start()
    c.serving.signal(signal.SIGCONT)
    eventually(lambda: not whole.in_etcd("claims"), what="nobody wants it any more")
    whole.well()
    whole.starts("a", wanted)


def test_watcher_cluster_ends_while_a_start_waits(whole: Whole) -> None:
    a, c = whole["a"], whole["c"]
    wanted = whole.address_in("c")
    c.serving.signal(signal.SIGSTOP)
    process = begun(whole, wanted)
    eventually(lambda: whole.in_etcd("claims"), what="it is asked for")
    a.speaking.kill9()
    told(whole, process, wanted, "is in no block of this host, and `watcher cluster` does not run")
    c.serving.signal(signal.SIGCONT)
    a.speaking.start()
    eventually(lambda: not whole.in_etcd("claims"), what="nobody wants it any more")
    whole.well()
    whole.starts("a", wanted)


def test_etcd_stands_still_before_it_is_asked(whole: Whole) -> None:
    etcd, wanted = whole.cluster.etcd, whole.elsewhere()
    for member in etcd.members:
        member.pause()
    told(whole, begun(whole, wanted), wanted, "cannot be claimed: etcd does not grant it")
    for member in etcd.members:
        member.resume()
    whole.well()
    whole.starts("a", wanted)
