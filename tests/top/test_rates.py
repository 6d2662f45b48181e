"""Rates of the counters of two pictures."""

from __future__ import annotations

from datetime import UTC, datetime

from watcher.feed.lines import ContainerPart, Counted, InterfacePart, SandboxLine, Traffic
from watcher.observe.stream import Picture
from watcher.observe.top.rates import Figures, Sample, rows, sampled
from watcher.observe.top.view import View

ROOT = "/run/runc"


def picture(*received: int, pid: int = 7, others: tuple[str, ...] = ()) -> Picture:
    """A sandbox whose interfaces have received so many bytes and sent half of that."""
    made = Picture()
    interfaces = tuple(
        InterfacePart(f"eth{i}", f"netnsv{i}-{pid}", f"net{i}", "", (f"172.19.{i}.2",))
        for i in range(len(received))
    )
    inside = tuple(ContainerPart(ROOT, id_) for id_ in ("web", *others))
    made.apply(SandboxLine("sandbox/1", "web", 1, inside, interfaces))
    for interface, count in zip(interfaces, received, strict=True):
        made.apply(Traffic(interface.host_name, count, 2, 1, 0, count // 2, 4, 1, 0, 1))
    return made


def test_a_rate_is_the_difference_over_the_time() -> None:
    before, now = Sample(10.0, picture(1000, 0)), Sample(12.0, picture(3000, 500))
    (row,) = rows(now, before)
    assert row.rates == Figures(1250.0, 625.0, 0.0, 0.0)
    assert row.total == Figures(3500.0, 1750.0, 12.0, 6.0)
    assert (row.network, row.address) == ("net0,net1", "172.19.0.2,172.19.1.2")
    one, other = rows(now, before, apart=True)
    assert (one.network, one.rates) == ("net0", Figures(1000.0, 500.0, 0.0, 0.0))
    assert (other.network, other.rates) == ("net1", Figures(250.0, 125.0, 0.0, 0.0))


def test_no_rate_without_two_times() -> None:
    now = Sample(12.0, picture(3000))
    for before in (None, Sample(12.0, picture(1000)), Sample(13.0, picture(1000))):
        (row,) = rows(now, before)
        assert row.rates is None


def test_the_time_is_that_of_the_counters() -> None:
    made = picture(1000)
    made.apply(Counted(datetime.fromtimestamp(10, UTC)))
    assert sampled(made).at == 10.0


def test_counters_that_were_not_read_meanwhile_change_no_rate() -> None:
    """Another reader may have had them read less than a second before."""
    view = View()
    shown = []
    for at, received in ((10.0, 1000), (12.0, 3000), (12.0, 3000)):
        view.take(Sample(at, picture(received)))
        shown.append(view.screen(24, 80, "").body[0].split()[3])
    assert shown == ["-", "8.00k", "8.00k"]


def test_counters_that_begin_anew_give_no_negative_rate() -> None:
    for before in (picture(5000), picture(5000, pid=8)):
        (row,) = rows(Sample(12.0, picture(1000)), Sample(10.0, before))
        assert row.rates is not None
        assert row.rates.received == 500.0


def test_an_interface_whose_counters_were_missing_has_no_rate_yet() -> None:
    before = picture(5000)
    before.traffic.clear()
    (row,) = rows(Sample(12.0, picture(6000)), Sample(10.0, before))
    assert row.rates is None


def test_what_a_sandbox_is_called() -> None:
    (row,) = rows(Sample(12.0, picture(1, others=("side", "car"))), None)
    assert row.container == "web +2"
    made = Picture()
    names = ("db", "app")
    id_ = "0123456789ab" + "c" * 52
    made.apply(SandboxLine("sandbox/1", id_, 1, (ContainerPart(ROOT, id_, names=names),), ()))
    made.apply(SandboxLine("sandbox/2", id_, 2, (ContainerPart(ROOT, id_),), ()))
    assert [row.container for row in rows(Sample(1.0, made), None)] == ["db", id_[:12]]
