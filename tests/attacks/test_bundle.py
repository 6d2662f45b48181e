"""A bundle that says one thing to the gate and another to runc.

Go reads JSON more leniently than others, and a file may be another one a moment later. What runc
made of a bundle is told by the kernel and by `state.json`, and nobody pays for it but its author.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.held import is_held
from tests.support.host import BEYOND, GATEWAY, UPLINK, Host, Service
from tests.support.traffic import Answer
from tests.support.waiting import eventually
from watcher.containers import gojson
from watcher.containers.files import MAX_SIZE, Unreadable
from watcher.containers.runtimes.crun import decode_config, decode_status
from watcher.containers.runtimes.runc import decode_state
from watcher.containers.spec import SpecNamespace, decode_spec, net_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.host import HostMaker

FIRST: Final = ("sh", "-c", f"ip -4 addr show eth0 && ping -c1 -W10 {GATEWAY}")
LONG_S: Final = "\u017f"


def _behind(text: str, member: str) -> str:
    return f"{text.rstrip()[:-1]}, {member}}}"


def _in_linux(text: str, member: str) -> str:
    spec = json.loads(text)
    linux = json.dumps(spec.pop("linux"))
    return _behind(json.dumps(spec), f'"linux": {_behind(linux, member)}')


def _path(namespaces: str) -> str:
    found = next(n["path"] for n in json.loads(namespaces) if n["type"] == "network")
    return json.dumps(found)


def _without_path(namespaces: str) -> str:
    return json.dumps([{"type": entry["type"]} for entry in json.loads(namespaces)])


def _path_in_capitals(text: str, namespaces: str) -> str:
    return text.replace(
        '{"type": "network"}', f'{{"type": "network", "PATH": {_path(namespaces)}}}'
    )


JOINING: Final[dict[str, Callable[[str, str], str]]] = {
    "linux in capitals": lambda own, path: _behind(own, f'"LINUX": {{"namespaces": {path}}}'),
    "namespaces in capitals": lambda own, path: _in_linux(own, f'"Namespaces": {path}'),
    "linux twice": lambda own, path: _behind(own, f'"linux": {{"namespaces": {path}}}'),
    "a long s": lambda own, path: _in_linux(own, f'"name{LONG_S}paces": {path}'),
    "an escaped letter": lambda own, path: _behind(own, f'"linu\\u0078": {{"namespaces": {path}}}'),
    "path in capitals": _path_in_capitals,
    "an element's memory": lambda own, path: _behind(
        _behind(own, f'"linux": {{"namespaces": {path}}}'),
        f'"linux": {{"namespaces": {_without_path(path)}}}',
    ),
    "null leaves a path": lambda own, path: own.replace(
        '{"type": "network"}', f'{{"type": "network", "path": {_path(path)}, "path": null}}'
    ),
}
"""Ways to have runc join a namespace: of a text with one of its own, and a list with paths."""


def own_text(host: Host, name: str, **bundle: Any) -> str:
    """The text of a bundle that has a network namespace of its own, to be made worse."""
    path = host.bundle(name, **bundle) / "config.json"
    spec = json.loads(path.read_text())
    return json.dumps(spec)


def joining(text: str, path: object) -> str:
    """The namespaces of that bundle with a path for the network's, in their order."""
    namespaces = json.loads(text)["linux"]["namespaces"]
    for entry in namespaces:
        if entry["type"] == "network":
            entry["path"] = str(path)
    return json.dumps(namespaces)


@contextmanager
def read_by_runc_alone(host: Host, service: Service, name: str) -> Iterator[None]:
    """Meanwhile runc has read the bundle `name` and is held; the service has not read it yet."""
    service.signal(signal.SIGSTOP)
    process = host.launching("run", name, "--detach")
    try:
        eventually(lambda: is_held(host, name))
        yield
    finally:
        service.signal(signal.SIGCONT)
    host.launched(process, name, check=False)


def victim(host: Host) -> Callable[[], bool]:
    """A container that serves; whether it still does, and its row is as it was."""
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    row = host.ls()["web"]

    def is_well() -> bool:
        assert host.ls()["web"] == row
        assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
        return True

    assert is_well()
    return is_well


# --- whose namespace it is -----------------------------------------------------------------------


@pytest.mark.parametrize("how", JOINING)
def test_nobody_gets_past_the_limit_on_sharing(make_host: HostMaker, how: str) -> None:
    host = make_host('limits.share = "none"\n')
    service = host.service()
    is_well = victim(host)
    text = own_text(host, "thief", args=["sleep", "1000000"])
    bad = JOINING[how](text, joining(text, host.netns_dir / "web"))
    (host.bundles / "thief" / "config.json").write_text(bad)
    done = host.launch("run", "thief", "--detach", check=False)
    assert done.returncode == 1
    service.logged("refused", "thief", "may not join that sandbox")
    assert is_well()
    assert host.watcher("sync").stdout == "nothing to do\n"


@pytest.mark.parametrize("how", JOINING)
def test_where_sharing_is_allowed_it_is_shared(make_host: HostMaker, how: str) -> None:
    host = make_host()
    host.service()
    is_well = victim(host)
    text = own_text(host, "friend")
    bad = JOINING[how](text, joining(text, host.netns_dir / "web"))
    (host.bundles / "friend" / "config.json").write_text(bad)
    host.launch("run", "friend", "--detach")
    assert host.attached("friend", "shared").address == host.container("web").address
    assert is_well()
    host.delete("friend")
    assert is_well()


def test_a_bundle_that_is_changed_between_the_two_reads_takes_nothing(make_host: HostMaker) -> None:
    host = make_host('limits.share = "none"\n')
    service = host.service()
    is_well = victim(host)
    path = host.bundle("thief", netns_path=host.netns_dir / "web") / "config.json"
    with read_by_runc_alone(host, service, "thief"):
        path.write_text(own_text(host, "thief"))
    service.logged("refused", "thief", "may not join that sandbox")
    assert is_well()


def test_a_foreign_namespace_by_such_a_change_is_given_back(host: Host) -> None:
    """Only `state.json` tells of that, a moment later."""
    service = host.service()
    foreign = host.base / "foreign"
    host.command("sh", "-ec", f"touch {foreign}; unshare --net={foreign} ip link set lo up")
    path = host.bundle("thief", netns_path=foreign) / "config.json"
    with read_by_runc_alone(host, service, "thief"):
        path.write_text(own_text(host, "thief"))
    thief = host.container("thief")
    service.logged("thief", "read another config.json", level="warning")
    eventually(lambda: host.status("thief") == "ignored")
    eventually(lambda: thief.place.links() == {"lo"})
    assert host.leftovers() == []


# --- what it asks for ----------------------------------------------------------------------------


def test_annotations_in_two_objects_count_at_the_gate(make_host: HostMaker) -> None:
    host = make_host("limits.fixed = false\n")
    service = host.service()
    text = own_text(host, "bad", args=["echo", "ran"], annotations={"io.watcher.ip": "172.19.0.9"})
    (host.bundles / "bad" / "config.json").write_text(_behind(text, '"Annotations": {"a": "b"}'))
    assert host.launch("run", "bad", check=False).returncode == 1
    service.logged("refused", "bad", "io.watcher.ip")
    assert host.output("bad") == ""


BACK: Final = '[network.back]\nbridge = "back0"\nsubnets = ["172.22.0.0/24"]\n'


def changed(host: Host, service: Service) -> None:
    """A container for which the gate has read of no annotation, and runc of a network."""
    path = host.bundle("web", annotations={"io.watcher.network": "back"}) / "config.json"
    with read_by_runc_alone(host, service, "web"):
        path.write_text(own_text(host, "web"))


def test_what_a_changed_bundle_asks_for_against_a_limit_is_not_given(make_host: HostMaker) -> None:
    host = make_host(f'limits.networks = ["default"]\n{BACK}')
    service = host.service()
    changed(host, service)
    service.logged("failed", "web", "do not allow it")
    assert host.ls()["web"]["network"] == ["default"]
    assert host.container("web").place.links() == {"lo", "eth0"}


def test_what_a_changed_bundle_asks_for_is_given_where_it_may_be(make_host: HostMaker) -> None:
    host = make_host(BACK)
    service = host.service()
    changed(host, service)
    service.logged("web", "annotations differ", level="warning")
    eventually(lambda: host.ls()["web"]["network"] == ["back"])
    assert host.container("web").address == "172.22.0.2"


# --- what runc takes -----------------------------------------------------------------------------

TAKEN: Final[dict[str, Callable[[str], bytes]]] = {
    "text behind it": lambda text: f"{text}\n}} and more".encode(),
    "a byte that is not UTF-8": lambda text: (
        _behind(text, '"annotations": {"a": "@"}').encode().replace(b"@", b"\xff\xe2\x82")
    ),
    "a lone surrogate": lambda text: _behind(text, '"annotations": {"a": "\\ud800"}').encode(),
    "null as a value": lambda text: _behind(text, '"annotations": {"a": null}').encode(),
    "null as annotations": lambda text: _behind(text, '"annotations": null').encode(),
    "a deep value": lambda text: _behind(text, f'"x": {"[" * 5000}{"]" * 5000}').encode(),
    "a long number": lambda text: _behind(text, f'"x": {"1" * 5000}').encode(),
    "many bytes": lambda text: _behind(text, f'"x": "{"x" * (MAX_SIZE + 1)}"').encode(),
}


@pytest.mark.parametrize("how", TAKEN)
def test_what_runc_takes_has_its_network_first(host: Host, how: str) -> None:
    service = host.service()
    text = own_text(host, "web", args=FIRST)
    (host.bundles / "web" / "config.json").write_bytes(TAKEN[how](text))
    assert "1 packets received" in host.launch("run", "web").stdout
    assert service.warnings() == []


def test_a_link_out_of_the_bundle_is_followed_as_runc_does(host: Host) -> None:
    host.service()
    path = host.bundle("web", FIRST) / "config.json"
    path.rename(host.base / "elsewhere.json")
    path.symlink_to("../../elsewhere.json")
    assert "1 packets received" in host.launch("run", "web").stdout


def test_many_bytes_that_ask_for_something_are_refused(host: Host) -> None:
    service = host.service()
    text = own_text(host, "web", ports="8080:80")
    huge = TAKEN["many bytes"](text)
    (host.bundles / "web" / "config.json").write_bytes(huge)
    assert host.launch("run", "web", "--detach", check=False).returncode == 1
    assert "bytes" in str(service.logged("refused", "web", "io.watcher."))


@pytest.mark.parametrize(
    ("left", "status"), [("{", 0), ('{"annotations": {"io.w\\u0061tcher.ip": "', 1)]
)
def test_what_cannot_be_decoded_is_refused_only_if_it_could_ask(
    host: Host, left: str, status: int
) -> None:
    service = host.service()
    path = host.bundle("web") / "config.json"
    with read_by_runc_alone(host, service, "web"):
        path.write_text(left)
    if status:
        service.logged("refused", "web", "not what runc reads")
        assert not (host.root / "web").exists()
    else:
        host.attached("web")


# --- as runc reads it ----------------------------------------------------------------------------


def _objects(keys: tuple[str, ...], values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.tuples(st.sampled_from(keys), values).map(lambda kv: f'"{kv[0]}": {kv[1]}')
    return st.lists(member, max_size=3).map(lambda members: f"{{{', '.join(members)}}}")


_TEXTS = st.sampled_from(('"a"', '"b"', "null", '"\\ud800"', '"\\u0061"', '"\udcff"'))
_ANNOTATIONS = st.one_of(st.just("null"), _objects(("k", "K", "l", "\\u006b", "k\udcff"), _TEXTS))
_PATHS = st.sampled_from(('"/proc/self/ns/net"', '""', "null"))
_NETWORK = _objects(("path", "PATH", "p\\u0061th"), _PATHS).map(
    lambda entry: entry[:-1] + (", " if len(entry) > 2 else "") + '"type": "network"}'
)
_LIST = st.lists(
    st.one_of(_NETWORK, st.just('{"type": "pid"}'), st.just('{"TYPE": "mount"}'), st.just("null")),
    max_size=3,
).map(lambda entries: f"[{', '.join(entries)}]")
_SETTINGS = st.one_of(
    st.just("null"),
    _objects(
        ("net.ipv4.ip_forward", "net.ipv4.ip_default_ttl", "kernel.hostname", "fs.mqueue.msg_max"),
        st.sampled_from(('"1"', '"64"', "null")),
    ),
)
_LINUX = st.one_of(
    st.just("null"),
    _objects(("namespaces", "NameSpaces", f"name{LONG_S}paces"), st.one_of(st.just("null"), _LIST)),
    _objects(("sysctl", "Sysctl", f"{LONG_S}ysctl"), _SETTINGS),
)
_MEMBERS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(("annotations", "ANNOTATIONS", f"annotation{LONG_S}")), _ANNOTATIONS
        ),
        st.tuples(st.sampled_from(("linux", "LINUX", "Linux", "linu\\u0078")), _LINUX),
    ).map(lambda kv: f'"{kv[0]}": {kv[1]}'),
    max_size=4,
)


def test_a_bundle_is_read_as_runc_reads_it(host: Host) -> None:
    """What this program makes of a bundle, against what runc wrote of it into `state.json`."""
    path = host.bundle("web", ["true"]) / "config.json"
    spec = json.loads(path.read_text())
    spec.pop("hostname", None)
    spec["mounts"] = [entry for entry in spec["mounts"] if entry["type"] != "cgroup"]
    text = json.dumps(spec)
    taken = 0

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), database=None)
    @given(_MEMBERS)
    def compare(members: list[str]) -> None:
        nonlocal taken
        content = _behind(text, ", ".join(members)) if members else text
        data = content.encode("utf-8", "surrogateescape")
        path.write_bytes(data)
        if host.launch("create", "web", check=False).returncode:
            return  # e.g. a namespace given twice, which counts only if runc takes it
        taken += 1
        state = decode_state((host.root / "web/state.json").read_bytes(), "state.json").config
        host.runc("delete", "--force", "web")
        found = decode_spec(data, "config.json")
        labels = {f"{key}={value}" for key, value in found.annotations.items()}
        assert labels == {one for one in state.labels or () if not one.startswith("bundle=")}
        assert [_kind(one) for one in found.namespaces] == [
            (one.type, one.path) for one in state.namespaces or ()
        ]
        assert net_settings(found.sysctl) == net_settings(state.sysctl or {})

    compare()
    assert taken >= 10


def _kind(namespace: SpecNamespace) -> tuple[str, str]:
    kinds = {
        "network": "NEWNET",
        "pid": "NEWPID",
        "mount": "NEWNS",
        "ipc": "NEWIPC",
        "uts": "NEWUTS",
    }
    return kinds.get(namespace.type, namespace.type), namespace.path


@given(_MEMBERS)
def test_what_is_read_fast_is_what_is_read_with_care(members: list[str]) -> None:
    """Whether readers could differ is seen without a look at each byte in Python, if it can be."""
    content = f"{{{', '.join(members)}}}".encode("utf-8", "surrogateescape")
    try:
        expected = gojson.read_unambiguous(content)
    except gojson.NotGo:
        with pytest.raises(Unreadable):
            decode_config(content, "config.json")
        return
    spec = decode_config(content, "config.json")
    namespaces = [(n.type, n.path) for n in spec.namespaces]
    assert gojson.Read(spec.annotations, namespaces, spec.sysctl, spec.hostname) == expected


def test_many_bytes_that_take_care_are_refused() -> None:
    """Nobody else waits while they are read."""
    many = json.dumps({"x": ["\u2713"] * 200_000})
    with pytest.raises(Unreadable, match="too many bytes"):
        decode_config(many.encode(), "config.json")
    assert (
        decode_config(many.replace("\\u2713", "\\u003c").encode(), "config.json").namespaces == ()
    )


@given(st.binary(max_size=200))
def test_any_bytes_are_a_bundle_or_an_error(content: bytes) -> None:
    for decode in (decode_spec, decode_config, decode_status):
        with suppress(Unreadable):
            decode(content, "config.json")
