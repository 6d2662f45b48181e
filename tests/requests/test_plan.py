"""What a container should get, by where it is and what it asks for: without a host."""

from __future__ import annotations

from typing import Final

import pytest

from watcher.config.settings import Config
from watcher.containers.place import Place
from watcher.model.container import Container, Namespace, Process
from watcher.model.errors import InvalidRequest
from watcher.model.request import Request
from watcher.model.sandbox import Member, Sandbox
from watcher.reconcile.plan import Create, Ignore, Join, Plan, plan

CONFIG = Config()
NEW = Place(of_host=False, inside=None, of_runtime=True)
NOTHING: Final = Request()
WEB, SIDECAR = Process(812, 1), Process(900, 2)
ROOT = CONFIG.roots[0].path
SANDBOX = Sandbox(1, "web", WEB, 4026532812, (), (Member(ROOT, "web", WEB),), ("web",))


def container(name: str, init: Process, namespace: Namespace = Namespace.OWN) -> Container:
    return Container(ROOT, name, init, "/b", {}, namespace, "", SANDBOX.netns)


def planned(
    one: Container, place: Place, request: Request = NOTHING, shared: Sandbox | None = None
) -> Plan:
    return plan(one, place, request, CONFIG, shared=shared)


def test_a_namespace_that_the_runtime_made_gets_a_sandbox() -> None:
    assert planned(container("web", WEB), NEW) == Create((CONFIG.networks["default"],))


def test_one_that_a_process_made_for_itself_is_left_alone() -> None:
    place = Place(of_host=False, inside=None, of_runtime=False)
    assert isinstance(planned(container("web", WEB), place), Ignore)


def test_the_namespace_of_a_sandbox_is_joined_whoever_is_in_it() -> None:
    place = Place(of_host=False, inside=SANDBOX, of_runtime=False)
    sidecar = container("sidecar", SIDECAR, Namespace.JOINED)
    assert planned(sidecar, place) == Join(SANDBOX)
    assert planned(container("web", WEB), place) == Join(SANDBOX)


def test_a_container_cannot_share_with_itself() -> None:
    with pytest.raises(InvalidRequest) as refused:
        planned(container("web", WEB), NEW, Request(share="web"), SANDBOX)
    assert (refused.value.key, refused.value.reason) == ("io.watcher.share", "the container itself")


def test_what_has_its_network_keeps_it_when_that_leaves_the_configuration() -> None:
    place = Place(of_host=False, inside=SANDBOX, of_runtime=False)
    web, asked = container("web", WEB), Request(networks=("gone",))
    assert plan(web, place, asked, CONFIG, shared=None, attached=True) == Join(SANDBOX)
    with pytest.raises(InvalidRequest, match="there is no such network"):
        plan(web, place, asked, CONFIG, shared=None)
