"""Containers without a network, or of another one's sandbox; hosts without a service or root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.checked import Line, checked
from tests.support.host import GATE_OFF

if TYPE_CHECKING:
    from tests.support.host import Host, HostMaker


def why(host: Host, name: str) -> Line:
    """The one line about it, the last."""
    lines = checked(host, name)
    assert [line["check"] for line in lines] == ["service", "container"]
    assert lines[-1]["remedy"]
    return lines[-1]


def test_each_reason(make_host: HostMaker) -> None:
    host = make_host(GATE_OFF)
    host.run("early")
    line = why(host, "early")
    assert line["level"] == "fail"
    assert line["what"].startswith('"early" has no network, it is waiting: ')
    host.attached("early")
    host.kill("early")
    line = why(host, "early")
    assert line["level"] == "fail"
    assert "its init has ended" in line["what"]
    host.run("none", annotations={"io.watcher.network": "none"})
    line = why(host, "none")
    assert line["level"] == "warn"
    assert line["what"].endswith("it is ignored: io.watcher.network = none")
    assert line["remedy"].startswith("if it is to have one, remove that annotation")
    host.run("hosts", netns_path="host")
    assert "in the host's network namespace" in why(host, "hosts")["what"]
    host.run("bad", annotations={"io.watcher.network": "frnt"})
    host.watcher("sync", check=False)
    line = why(host, "bad")
    assert "io.watcher.network" in line["what"]
    assert "frnt" in line["what"]
    assert line["remedy"].startswith("name one of")


def test_one_that_was_refused(host: Host) -> None:
    host.service()
    host.bundle("bad", annotations={"io.watcher.network": "frnt"})
    assert host.launch("run", "bad", "--detach", check=False).returncode
    line = why(host, "bad")
    assert "it is failed: io.watcher.network" in line["what"]


def test_shared_and_named_and_without_service_or_root(host: Host) -> None:
    web = host.attach("web", ports="8080:80", annotations={"io.watcher.name": "www"})
    web.serve(tcp=(80,))
    host.share("side", "web")
    for name in ("web", "www", "we", "side"):
        lines = checked(host, name)
        assert any(line["what"].startswith("8080:80/tcp: a program listens") for line in lines)
        assert lines[0]["check"] == "service"
        assert "no service runs on this host" in lines[0]["what"]
    host.service()
    assert checked(host, "side")[0]["level"] == "ok"
    done = host.watcher("check", "nobody", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith('watcher: there is no container "nobody" in')
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    command = (*nobody, *host.watcher_command("check", "web"))
    done = host.command(*command, env=host.watcher_env, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("; run as root\n")
