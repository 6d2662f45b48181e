"""A root whose file system does not answer: its own container waits, and starts all the same."""

from __future__ import annotations

from tests.support import bundles
from tests.support.hangs import Freezable
from tests.support.held import is_held
from tests.support.host import HostMaker
from tests.support.resolv_confs import OURS, READ
from tests.support.waiting import eventually


def test_a_root_that_does_not_answer_costs_its_own_container_a_while(make_host: HostMaker) -> None:
    host = make_host('[gate]\nmode = "required"\ntimeout = 3.0\non_timeout = "deny"\n')
    service = host.service()
    frozen = Freezable(host, host.base / "frozen")
    root = host.base / "frozen/root"
    host.command("cp", "-a", str(host.rootfs), str(root))
    host.command("rm", str(root / "etc/resolv.conf"))

    def edit(spec: bundles.Spec) -> None:
        spec["root"] = {"path": str(root), "readonly": False}

    host.bundle("stuck", edit=edit)
    frozen.freeze()
    stuck = host.launching("run", "stuck", "--detach")
    eventually(lambda: is_held(host, "stuck"))
    assert host.run_to_end("next", READ).stdout == OURS
    host.launched(stuck, "stuck")
    service.logged("no resolv.conf", '"stuck"', "does not answer", level="warning")
    frozen.thaw()
    eventually(lambda: host.container("stuck").exec(*READ).stdout == OURS)
    assert len(service.warnings()) == 1
