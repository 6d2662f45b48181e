"""Which limits a container can ask for, by its networks, its root and the sandbox that it joins."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest
from msgspec.structs import replace

from watcher.config.settings import Config, Limits, Root
from watcher.containers.annotations import parse_request
from watcher.containers.place import Place
from watcher.model.container import Container, Namespace, Process
from watcher.model.errors import InvalidRequest
from watcher.model.network import Network
from watcher.model.policy.limits import SandboxLimits
from watcher.model.request import Request
from watcher.model.sandbox import Member, Sandbox
from watcher.reconcile.founders import Founder
from watcher.reconcile.plan import Create, CreateFor, Ignore, Join, Plan, plan
from watcher.reconcile.policies import check_connect

NEW = Place(of_host=False, inside=None, of_runtime=True)
WEB = Container("/run/runc", "web", Process(812, 1), "/b", {}, Namespace.OWN, "", 4026532812)
SIDE = replace(WEB, id="side", init=Process(900, 2), namespace=Namespace.JOINED, joined="/web")


def network(name: str, number: int, **settings: Any) -> Network:
    subnets = (IPv4Network(f"172.{number}.0.0/24"),)
    return Network(name=name, bridge=f"{name}0", subnets=subnets, **settings)


NETWORKS = {
    one.name: one
    for one in (
        Network(),
        network("walled", 20, egress=("10.0.0.0/8",), connections=50),
        network("named", 21, egress=("a.example:443/tcp",)),
        network("loose", 22, guard=False),
        network("inside", 23, internal=True),
        network("nameless", 24, names=False),
        network("apart", 25, isolate=True),
        network("routed", 26, mode="routed"),
        network("closed", 27, ingress=()),
    )
}


def config(**limits: Any) -> Config:
    return Config(roots=(Root(limits=Limits(**limits)),), networks=NETWORKS)


def asked(**annotations: str) -> Request:
    return parse_request(
        {f"io.watcher.{k.replace('_', '-')}": v for k, v in annotations.items()}, ""
    )


def planned(request: Request, of: Config | None = None, **more: Any) -> Plan:
    container, place = more.pop("container", WEB), more.pop("place", NEW)
    return plan(container, place, request, of or config(), shared=None, **more)


def refusal(request: Request, of: Config | None = None, **more: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as error:
        planned(request, of, **more)
    assert error.value.remedy
    return error.value


def test_limits_are_those_asked_for_and_those_of_the_root() -> None:
    made = planned(
        asked(egress="any:443/tcp,!10.0.0.0/8", ingress_bandwidth="10M", connections="5"),
        config(policy="walled", connections=20, egress_bandwidth=10**9),
    )
    assert isinstance(made, Create)
    assert made.limits == SandboxLimits(
        egress=("!10.0.0.0/8", "any:443/tcp"), policy="walled", ingress_bandwidth=10**7,
        connections=5, most_egress_bandwidth=10**9, most_connections=20,
    )  # fmt: skip
    founder = Founder(replace(WEB, id="pause"), "")
    of_pod = planned(
        asked(egress="none"), config(policy="walled"), container=SIDE,
        place=Place(of_host=False, inside=None, of_runtime=False), founder=founder,
    )  # fmt: skip
    assert isinstance(of_pod, CreateFor)
    assert of_pod.limits == SandboxLimits(egress=(), policy="walled")


@pytest.mark.parametrize(
    ("annotations", "key", "reason"),
    [
        ({"egress": "any", "network": "loose"}, "egress", "guard = false"),
        ({"ingress": "any", "network": "default,loose"}, "ingress", "guard = false"),
        ({"egress": "none", "network": "inside"}, "egress", "no way out anyway"),
        ({"ingress": "host", "network": "inside"}, "ingress", "publishes nothing anyway"),
        ({"ingress": "none"}, "ingress", "neighbours reach it directly"),
        ({"ingress": "host"}, "ingress", "neighbours reach it directly"),
        ({"ingress": "any,!172.19.0.9"}, "ingress", "neighbours reach it directly"),
        ({"ingress": "192.0.2.1,network:80"}, "ingress", "neighbours reach it directly"),
        ({"ingress": "any,!network:22", "egress": "any"}, "ingress", "neighbours reach it"),
        ({"egress": "a.example", "network": "nameless"}, "egress", "does not serve network"),
        ({"egress": "a.example", "dns": "192.0.2.1"}, "dns", "would choose addresses"),
        ({"network": "named", "dns": "192.0.2.1"}, "dns", "would choose addresses"),
        ({"network": "none", "connections": "9"}, "connections", "contradictory"),
        ({"network": "none", "ingress-bandwidth": "1M"}, "ingress-bandwidth", "contradictory"),
    ],
)
def test_wishes_that_do_not_fit_are_one_clear_error(
    annotations: dict[str, str], key: str, reason: str
) -> None:
    with pytest.raises(InvalidRequest) as error:
        planned(asked(**annotations))
    assert error.value.key == f"io.watcher.{key}"
    assert reason in error.value.reason


@pytest.mark.parametrize(
    "annotations",
    [
        {"egress": "any", "network": "default,inside"},
        {"egress": "a.example", "dns": "none"},
        {"egress": "a.example", "network": "nameless,default"},
        {"ingress": "any,!host"},
        {"ingress": "none", "network": "routed"},
        {"ingress": "none", "network": "apart"},
        {"ingress": "none", "network": "walled"},
        {"ingress": "any", "network": "closed"},
    ],
)
def test_wishes_that_fit_are_met(annotations: dict[str, str]) -> None:
    assert isinstance(planned(asked(**annotations)), Create)


def test_a_root_has_the_last_word() -> None:
    of = config(ingress_bandwidth=10**7, egress_bandwidth=10**6, connections=20, policy="named")
    for key, value in (("ingress_bandwidth", "1G"), ("egress_bandwidth", "2M"),
                       ("connections", "21")):  # fmt: skip
        assert "do not allow it" in refusal(asked(**{key: value}), of).reason
    assert isinstance(planned(asked(connections="20", egress_bandwidth="1M"), of), Create)
    assert isinstance(planned(asked(network="walled"), of), Create), "its default is only lowered"
    held = refusal(asked(network="loose"), of)
    assert (held.key, held.value) == ("io.watcher.network", "loose")
    assert "guard = false" in held.reason
    assert refusal(asked(dns="192.0.2.1"), of).key == "io.watcher.dns"
    assert "does not serve" in refusal(asked(network="nameless"), of).reason
    assert "neighbours" in refusal(asked(), config(policy="closed")).reason
    attached = planned(asked(network="loose"), of, attached=True)
    assert isinstance(attached, Create), "what is attached keeps what it has, and is held"
    assert attached.limits.policy == "named"


def joined(request: Request, limits: SandboxLimits, of: Config | None = None) -> Plan:
    member = Member(WEB.root, "web", WEB.init)
    sandbox = Sandbox(1, "web", WEB.init, 4026532812, (), (member,), ("web",), limits=limits)
    place = Place(of_host=False, inside=sandbox, of_runtime=False)
    return planned(request, of, container=SIDE, place=place)


def test_a_member_has_the_limits_of_the_sandbox_or_none_of_its_own() -> None:
    there = SandboxLimits(egress=("any:443/tcp",), connections=20)
    for request in (asked(), asked(egress="ANY:443/tcp", connections="20"), asked(name="side")):
        assert isinstance(joined(request, there), Join)
    for request, reason in (
        (asked(egress="any:443"), "which has any:443/tcp"),
        (asked(egress="any:443/tcp", connections="19"), "which has 20"),
        (asked(ingress="any"), "which has no such limit"),
        (asked(egress_bandwidth="1M"), "which has no such limit"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            joined(request, there)


def test_nobody_joins_a_sandbox_that_may_more_than_the_root_allows() -> None:
    nothing, strict = asked(), config(policy="walled", connections=20)
    with pytest.raises(InvalidRequest, match="forces the policy of network walled"):
        joined(nothing, SandboxLimits(egress=()), strict)
    with pytest.raises(InvalidRequest, match="allows connections of 20"):
        joined(nothing, SandboxLimits(policy="walled", most_connections=30), strict)
    for there in (SandboxLimits(policy="walled", most_connections=20),
                  SandboxLimits(policy="walled", connections=3)):  # fmt: skip
        assert isinstance(joined(nothing, there, strict), Join)


def test_where_nothing_would_be_limited_wishes_for_limits_are_refused() -> None:
    host = Place(of_host=True, inside=None, of_runtime=False)
    assert "the host's network namespace" in refusal(asked(egress="none"), place=host).reason
    own = Place(of_host=False, inside=None, of_runtime=False)
    assert "where nothing limits it" in refusal(asked(connections="9"), place=own).reason
    foreign = refusal(asked(egress_bandwidth="1M"), container=SIDE)
    assert "none of ours, where nothing limits it" in foreign.reason
    assert isinstance(planned(asked(name="x"), place=host), Ignore)


def test_a_limited_sandbox_is_connected_only_to_where_it_can_be_held() -> None:
    named = SandboxLimits(egress=("a.example:443/tcp",))
    sandbox = Sandbox(1, "web", WEB.init, 1, (), (Member("/r", "web", WEB.init),), (), limits=named)
    check_connect(sandbox, NETWORKS["inside"], NETWORKS)
    with pytest.raises(InvalidRequest, match="guard = false"):
        check_connect(sandbox, NETWORKS["loose"], NETWORKS)
    closed = replace(sandbox, limits=SandboxLimits(ingress=()))
    with pytest.raises(InvalidRequest, match="neighbours reach it directly"):
        check_connect(closed, NETWORKS["default"], NETWORKS)
    asks = Member("/r", "web", WEB.init, asked=asked(dns="192.0.2.1"))
    free = replace(sandbox, members=(asks,), limits=SandboxLimits())
    check_connect(free, NETWORKS["default"], NETWORKS)
    with pytest.raises(InvalidRequest, match="would choose addresses"):
        check_connect(free, NETWORKS["named"], NETWORKS)
