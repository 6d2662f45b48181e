"""A kernel that cannot hold a link to a rate refuses who asks for that, and says what it lacks.

No kernel here lacks any of it, so the program asks for a part of a name that the kernel does not
know; the refusal is the kernel's own.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.paths import REPOSITORY
from tests.support.shaped import limited

if TYPE_CHECKING:
    from tests.support.host import HostMaker

LACKING: Final = {
    "sch_tbf": "shaping._KIND = traffic_control.attribute(1, b'unheard-of\\0')",
    "ifb": "shaping._DEVICE = 'unheard-of'",
    "act_mirred": "traffic_control._REDIRECTION = b'unheard-of\\0'",
}


@pytest.mark.parametrize("module", LACKING)
def test_who_asks_is_refused_and_others_go_on(make_host: HostMaker, module: str) -> None:
    host = make_host()
    program = host.base / "program"
    program.mkdir()
    for package in ("watcher", "handlers"):
        (program / package).symlink_to(REPOSITORY / package)
    (program / "sitecustomize.py").write_text(
        f"from handlers.kernel.rtnl import shaping, traffic_control\n{LACKING[module]}\n"
    )
    host.program = program
    free = host.attach("free")
    host.run("web", annotations=limited("10M", "10M"))
    reason = host.fails("web")
    assert reason.startswith(
        'container "web": the kernel cannot hold a link to a rate for want of '
    ), reason
    assert module in reason.partition(";")[0]
    assert host.veths() == {free.veth}
    listed = json.loads(host.watcher("check", "--json", check=False).stdout)
    (finding,) = (entry for entry in listed if entry["check"] == "bandwidth")
    assert finding["level"] == "warn"
    assert module in finding["what"]
