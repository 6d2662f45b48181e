"""The gate with real containers: held before their first instruction, let go, or denied."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundles import Spec
from tests.support.gatekeeper import Gatekeeper
from tests.support.held import Verb, own_mount, runc
from tests.support.host import Host
from tests.support.paths import REPOSITORY
from tests.support.waiting import PATIENCE, eventually

PLAYED_RUNC = REPOSITORY / "tests/support/played_runc.py"
HAS_ITS_LINK = ("ip", "link", "show", "made-while-held")


@pytest.fixture
def root(host: Host) -> Path:
    """The root of `host`, a mount of its own."""
    return own_mount(host, host.root)


def entries(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def make_link(host: Host, init: int) -> None:
    """Makes the link that `HAS_ITS_LINK` asks for, in the network namespace of `init`."""
    words = ("ip", "link", "add", HAS_ITS_LINK[-1], "type", "bridge")
    host.command("nsenter", f"--net=/proc/{init}/ns/net", *words)


# --- held, and let go --------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["run", "create"])
def test_a_container_waits_until_it_is_allowed(host: Host, root: Path, verb: Verb) -> None:
    host.bundle("web", HAS_ITS_LINK)
    with Gatekeeper(host, root) as gate, runc(host, verb, "web") as process:
        held = gate.held("web")
        assert held["root"] == str(root)
        make_link(host, held["init"])
        assert process.poll() is None
        assert not (root / "web" / "state.json").exists()

        assert gate.ask("allow", "web") is True
        assert process.wait(PATIENCE) == 0
        if verb == "create":
            host.start("web")
        eventually(lambda: HAS_ITS_LINK[-1] in host.output("web"))
        assert gate.end() == []


@pytest.mark.parametrize("verb", ["run", "create"])
def test_a_container_that_is_denied_never_starts(host: Host, root: Path, verb: Verb) -> None:
    host.bundle("web", ["echo", "started"])
    with Gatekeeper(host, root) as gate, runc(host, verb, "web") as process:
        init = gate.held("web")["init"]
        assert gate.ask("deny", "web") is True
        assert process.wait(PATIENCE) == 1

        assert "unable to store init state" in (host.bundles / "web" / "errors").read_text()
        assert host.output("web") == ""
        assert entries(root) == []
        assert not host.seen(Path(f"/proc/{init}")).exists()


def test_each_is_answered_by_itself(host: Host, root: Path) -> None:
    for name in ("good", "bad"):
        host.bundle(name, ["true"])
    with (
        Gatekeeper(host, root) as gate,
        runc(host, "run", "good") as good,
        runc(host, "run", "bad") as bad,
    ):
        gate.held("good")
        gate.held("bad")
        gate.ask("deny", "bad")
        assert bad.wait(PATIENCE) == 1
        assert good.poll() is None
        gate.ask("allow", "good")
        assert good.wait(PATIENCE) == 0


def test_only_the_first_answer_counts(host: Host, root: Path) -> None:
    host.bundle("web", ["true"])
    with Gatekeeper(host, root) as gate, runc(host, "run", "web") as process:
        gate.held("web")
        assert [gate.ask(word, "web") for word in ("allow", "deny", "allow")] == [
            True,
            False,
            False,
        ]
        assert process.wait(PATIENCE) == 0


def test_seventy_are_held_at_once(host: Host, root: Path) -> None:
    names = [f"c{number}" for number in range(70)]
    for name in names:
        host.bundle(name, ["true"])
    with Gatekeeper(host, root) as gate, ThreadPoolExecutor(len(names)) as pool:
        ends = [pool.submit(host.launch, "run", name) for name in names]
        for name in names:
            gate.held(name)
        assert not any(end.done() for end in ends)
        assert not list(root.glob("*/state.json"))

        assert all(gate.ask("allow", name) for name in names)
        for end in ends:
            end.result(PATIENCE)
        assert gate.end() == []


# --- never in the way --------------------------------------------------------------------------


@pytest.mark.parametrize(("on_timeout", "status"), [("allow", 0), ("deny", 1)])
def test_a_deadline_answers_whatever_the_program_does(
    host: Host, root: Path, on_timeout: str, status: int
) -> None:
    host.bundle("web", ["true"])
    options = ("--timeout", "0.2", "--on-timeout", on_timeout, "--busy")
    gate = Gatekeeper(host, root, options=options)
    with runc(host, "run", "web") as process:
        gate.held("web")
        assert process.wait(PATIENCE) == status
    gate.wait("expired", id="web")
    gate.kill()


def test_an_answer_after_the_deadline_changes_nothing(host: Host, root: Path) -> None:
    host.bundle("web", ["true"])
    with (
        Gatekeeper(host, root, options=("--timeout", "0.1")) as gate,
        runc(host, "run", "web") as process,
    ):
        gate.wait("expired", id="web")
        assert gate.ask("deny", "web") is False
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("finish", [True, False])
def test_what_is_decided_is_answered_whether_it_is_finished_or_not(
    host: Host, root: Path, finish: bool
) -> None:
    """Not by the deadline, which would allow it, nor by a later answer."""
    host.bundle("web", ["true"])
    with Gatekeeper(host, root) as gate, runc(host, "run", "web") as process:
        gate.held("web")
        assert gate.ask("decide", "web") is True
        assert gate.ask("allow", "web") is False
        assert gate.ask("decide", "web") is False
        if finish:
            gate.ask("finish", "web")
        assert process.wait(PATIENCE) == 1
        assert gate.end() == []


def test_what_is_decided_stays_so_if_the_gate_closes_before_it_is_answered(
    host: Host, root: Path
) -> None:
    host.bundle("web", ["true"])
    with Gatekeeper(host, root) as gate, runc(host, "run", "web") as process:
        gate.held("web")
        gate.tell("decide", "web")
        gate.tell("close")
        assert process.wait(PATIENCE) == 1


@pytest.mark.parametrize("end", ["kill -9", "close"])
def test_the_end_of_the_gate_lets_everybody_go(host: Host, root: Path, end: str) -> None:
    host.bundle("one", ["true"])
    host.bundle("two", ["true"])
    gate = Gatekeeper(host, root)
    with runc(host, "run", "one") as one, runc(host, "run", "two") as two:
        gate.held("one")
        gate.held("two")
        if end == "close":
            gate.ask("close")
            assert gate.ask("deny", "one") is False
            assert gate.ask("alive") is False
        else:
            gate.kill()
        assert (one.wait(PATIENCE), two.wait(PATIENCE)) == (0, 0)


def test_a_decision_that_raises_holds_nobody(host: Host, root: Path) -> None:
    with Gatekeeper(host, root, options=("--raise",)) as gate:
        assert host.run_to_end("one", ["true"]).returncode == 0
        assert gate.wait("failed")["error"] == "RuntimeError('as asked')"
        assert host.run_to_end("two", ["true"]).returncode == 0
        assert gate.ask("alive") is True


def test_a_runc_that_is_killed_while_held_leaves_the_gate_as_it_was(host: Host, root: Path) -> None:
    host.bundle("web", ["true"])
    with Gatekeeper(host, root) as gate:
        with runc(host, "run", "web") as process:
            held = gate.held("web")
            host.command("kill", "-9", str(held["runc"]))
            assert process.wait(PATIENCE) != 0
        gate.ask("allow", "web")
        host.runc("delete", "--force", "web", check=False)

        host.bundle("next", ["true"])
        with runc(host, "run", "next") as process:
            gate.held("next")
            gate.ask("allow", "next")
            assert process.wait(PATIENCE) == 0
        assert gate.end() == []


def test_containers_without_a_namespace_of_their_own_are_not_held(host: Host, root: Path) -> None:
    with Gatekeeper(host, root) as gate:
        assert host.run_to_end("plain", ["true"], netns_path="host").returncode == 0
        assert host.run_to_end("path", ["true"], netns_path="/proc/1/ns/net").returncode == 0
        assert gate.end() == []


def test_runcs_other_commands_are_not_held(host: Host, root: Path) -> None:
    with Gatekeeper(host, root, options=("--at-once",)) as gate:
        host.create("web")
        gate.held("web")
        host.start("web")
        host.runc("exec", "web", "true")
        host.runc("update", "--pids-limit", "100", "web")
        host.runc("list")
        host.state("web")
        host.pause("web")
        host.resume("web")
        host.kill("web")
        host.delete("web")
        assert gate.end() == []


# --- both of runc's protocols ------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "status"), [("allow", 0), ("deny", 1)])
def test_a_runc_that_saves_twice_is_held_at_the_second_save(
    host: Host, root: Path, answer: str, status: int
) -> None:
    bundle = host.bundle("web", annotations={"io.watcher.ports": "8080:80"})
    words = [sys.executable, str(PLAYED_RUNC), str(root), "web", str(bundle)]
    with Gatekeeper(host, root) as gate, host.popen(words, stdout=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "saved early\n"
        gate.held("web")
        assert gate.ask("read", str(root), "web") is None
        (bundle / "config.json").unlink()  # the early state.json has all that is to be known
        container = gate.ask("observe", "web")
        assert container["annotations"] == {"io.watcher.ports": "8080:80", "bundle": str(bundle)}
        assert (container["namespace"], container["bundle"]) == ("own", str(bundle))

        gate.ask(answer, "web")
        rest = process.stdout.read()
        assert rest == ("saved\nstarted\n" if answer == "allow" else "")
        assert process.wait(PATIENCE) == status
        assert gate.end() == []


def test_the_thread_that_saves_tells_of_its_bundle(host: Host, root: Path) -> None:
    bundle = host.bundle("web", annotations={"a": "b"})
    words = [sys.executable, str(PLAYED_RUNC), str(root), "web", str(bundle)]
    with Gatekeeper(host, root) as gate, host.popen(words, stdout=-1) as process:
        assert process.stdout is not None
        gate.held("web")
        (root / "web" / "state.json").unlink()
        assert gate.ask("observe", "web")["annotations"] == {"a": "b", "bundle": str(bundle)}
        gate.ask("allow", "web")
        process.stdout.read()
        assert process.wait(PATIENCE) == 0


# --- what is known of a held container ---------------------------------------------------------

ODD_LABELS = {"a": "b", "x=y": "z", "empty": "", "ünï": "\u2028 ✓", "bundle": "not this one"}


def seen_twice(
    host: Host, root: Path, *options: str, env: dict[str, str] | None = None
) -> tuple[Any, Any]:
    """The container `web` as it is observed while held, and as the root tells of it later."""
    with (
        Gatekeeper(host, root) as gate,
        runc(host, "create", "web", *options, env=env) as process,
    ):
        gate.held("web")
        held = gate.ask("observe", "web")
        gate.ask("allow", "web")
        assert process.wait(PATIENCE) == 0
        return held, gate.ask("read", str(root), "web")


@pytest.mark.parametrize("annotations", [{}, {"io.watcher.ip": "172.19.0.9"}, ODD_LABELS])
def test_a_held_container_is_what_its_root_tells_later(
    host: Host, root: Path, annotations: dict[str, str]
) -> None:
    bundle = host.bundle("web", annotations=annotations)
    held, later = seen_twice(host, root)

    assert held == later
    assert held["bundle"] == str(bundle)
    # A "=" in a key is lost on runc, which keeps each label as one string.
    expected = {**annotations, "bundle": str(bundle)}
    if "x=y" in expected:
        expected["x"] = f"y={expected.pop('x=y')}"
    assert held["annotations"] == expected
    assert held["namespace"] == "own"
    assert held["netns"] == host.place("web").inode


def test_settings_of_a_held_container_are_what_its_root_tells_later(host: Host, root: Path) -> None:
    def edit(spec: Spec) -> None:
        spec["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "33", "kernel.domainname": "x"}

    host.bundle("web", edit=edit)
    held, later = seen_twice(host, root)
    assert held == later
    assert held["settings"] == [["net.ipv4.ip_default_ttl", "33"]]


def test_a_bundle_behind_a_link_is_the_same_bundle(host: Host, root: Path) -> None:
    link = host.base / "link"
    link.symlink_to(host.bundles)
    bundle = host.bundle("web")
    held, later = seen_twice(host, root, env={"PWD": f"{link}/web"})

    assert (held["bundle"], later["bundle"]) == (str(bundle), f"{link}/web")
    assert held | {"bundle": "", "annotations": {}} == later | {"bundle": "", "annotations": {}}


def test_a_bundle_that_is_named_to_runc_is_found(host: Host, root: Path) -> None:
    bundle = host.bundle("web", annotations={"a": "b"})
    other = host.bundle("other")
    words = ["runc", "--root", str(root), "create", "--bundle", "../web", "web"]
    output = (bundle / "output").open("w")
    with (
        output,
        Gatekeeper(host, root) as gate,
        host.popen(words, directory=other, stdout=output, stderr=output) as process,
    ):
        gate.held("web")
        assert gate.ask("observe", "web")["annotations"] == {"a": "b", "bundle": str(bundle)}
        gate.ask("allow", "web")
        assert process.wait(PATIENCE) == 0


def test_a_joined_namespace_is_known_by_its_path(host: Host, root: Path) -> None:
    with Gatekeeper(host, root, options=("--at-once",)):
        web = host.create("web")
    path = f"/proc/{host.pid('web')}/ns/net"
    host.command("touch", str(host.base / "pin"))
    host.command("mount", "--bind", path, str(host.base / "pin"))
    host.bundle("side", netns_path=host.base / "pin")
    with Gatekeeper(host, root) as gate, runc(host, "create", "side") as process:
        gate.held("side")
        side = gate.ask("observe", "side")
        assert (side["namespace"], side["joined"]) == ("joined", str(host.base / "pin"))
        assert side["netns"] == web.place.inode
        gate.ask("allow", "side")
        assert process.wait(PATIENCE) == 0
        assert gate.ask("read", str(root), "side") == side


def damage(path: Path, how: str) -> None:
    """Makes of a `config.json` what runc would not have started from."""
    content = path.read_text()
    path.unlink()
    match how:
        case "FIFO":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "huge":
            with path.open("w") as file:
                file.truncate(1 << 40)
        case "invalid":
            path.write_text(content[:-10])
        case "deep":
            path.write_text("[" * 1_000_000)
        case "of another type":
            path.write_text('{"annotations": ["a"]}')
        case "link out":
            path.with_name("elsewhere").mkdir()
            (path.parent / "elsewhere" / "config.json").write_text(content)
            path.symlink_to("elsewhere/config.json")
        case "link up":
            path.symlink_to("..")
        case "loop":
            path.symlink_to("config.json")
        case "link beside":
            path.with_name("real.json").write_text(content)
            path.symlink_to("real.json")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("missing", "is missing"),
        ("FIFO", "is not a regular file"),
        ("directory", "is not a regular file"),
        ("huge", "bytes, more than"),
        ("invalid", "is not what runc reads"),
        ("deep", "is not what runc reads: it is nested too deeply; correct it"),
        ("of another type", "is not what runc reads"),
        ("link out", ""),
        ("link up", "is not a regular file"),
        ("loop", "cannot be read"),
        ("link beside", ""),
    ],
)
def test_a_damaged_config_is_an_error_and_never_waited_for(
    host: Host, root: Path, how: str, says: str
) -> None:
    config = host.bundle("web", ["true"], annotations={"a": "b"}) / "config.json"
    with Gatekeeper(host, root) as gate, runc(host, "run", "web") as process:
        gate.held("web")
        damage(config, how)
        container = gate.ask("observe", "web")
        if says:
            assert str(config) in container["error"]
            assert says in container["error"]
        else:
            assert container["annotations"] == {"a": "b", "bundle": str(config.parent)}
        gate.ask("allow", "web")
        assert process.wait(PATIENCE) == 0


def test_a_container_whose_runc_was_killed_is_an_error(host: Host, root: Path) -> None:
    host.bundle("web", ["true"])
    with Gatekeeper(host, root) as gate:
        with runc(host, "run", "web") as process:
            held = gate.held("web")
            host.command("kill", "-9", str(held["runc"]))
            assert process.wait(PATIENCE) != 0
        assert "the bundle of runc" in gate.ask("observe", "web")["error"]


# --- which roots -------------------------------------------------------------------------------


def test_a_root_is_marked_when_it_appears_and_again_when_it_is_made_again(host: Host) -> None:
    def is_held() -> bool:
        host.bundle("web", ["true"])
        with runc(host, "run", "web") as process:
            gate.held("web")
            gate.ask("allow", "web")
            return process.wait(PATIENCE) == 0

    with Gatekeeper(host) as gate:
        assert gate.ask("mark", str(host.root)) == 2  # ENOENT
        own_mount(host, host.root)
        assert [gate.ask("mark", str(host.root)) for _ in range(2)] == [0, 0]
        assert is_held()

        host.root.rmdir()  # from another mount namespace, its mount goes with it
        own_mount(host, host.root)
        assert host.run_to_end("unmarked", ["true"]).returncode == 0
        assert gate.ask("mark", str(host.root)) == 0
        assert is_held()
        assert gate.end() == []


def test_a_root_is_held_no_more_when_it_is_unmarked(host: Host, root: Path) -> None:
    with Gatekeeper(host, root) as gate:
        assert [gate.ask("unmark", str(root)) for _ in range(2)] == [0, 0]
        assert host.run_to_end("web", ["true"]).returncode == 0
        assert gate.end() == []


def test_a_root_that_is_no_mount_is_not_marked(host: Host) -> None:
    host.root.mkdir()
    with Gatekeeper(host) as gate:
        assert gate.ask("mark", str(host.root)) == 22  # EINVAL
        assert host.run_to_end("web", ["true"]).returncode == 0
        assert gate.end() == []


def test_a_root_behind_a_link_keeps_its_name(host: Host, root: Path) -> None:
    link = host.base / "link"
    link.symlink_to(root)
    host.bundle("web", ["true"])
    with Gatekeeper(host, link) as gate, runc(host, "run", "web") as process:
        assert gate.held("web")["root"] == str(link)
        gate.ask("allow", "web")
        assert process.wait(PATIENCE) == 0


def test_containers_of_another_root_are_not_held(host: Host, root: Path) -> None:
    other = host.base / "other"
    with Gatekeeper(host, root) as gate:
        host.bundle("web", ["true"])
        assert host.launch("run", "web", root=other).returncode == 0
        assert gate.end() == []
