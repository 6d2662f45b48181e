"""What a reader gets: the state, one consistent picture with a number, and then each change."""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from tests.support.broker import NOW, Service, failure, sandbox


def test_a_reader_gets_the_state_and_then_each_event(service: Service) -> None:
    service.seq = 41
    service.start([sandbox(1), sandbox(2), failure("broken", "why")])
    with service.reader() as reader:
        reader.until(lambda: reader.known.complete)
        assert service.agrees(reader.known)
        assert reader.known.seq == 41
        assert reader.known.networks["default"].bridge == "netns0"
        assert reader.known.roots["/run/runc"].held
        assert reader.known.totals is not None
        assert reader.known.readers is not None
        assert reader.known.readers.now == 1
        service.event(sandbox(3))
        service.event(sandbox(1, change=1), unset=[failure("broken", "").key])
        service.event(unset=[sandbox(2).key])
        reader.follow()
        assert service.agrees(reader.known)
        assert reader.events == [42, 43, 44]
        assert "Missed" not in reader.seen


def test_a_reader_waits_for_the_end_of_the_first_pass(service: Service) -> None:
    service.begin()
    service.tell([sandbox(1)])
    with service.reader() as reader:
        service.event(sandbox(2), unset=[sandbox(1).key])
        service.tell([sandbox(3)])
        service.ready()
        assert service.agrees(reader.follow())
        assert reader.seen["State"] == 1
        assert "Event" not in reader.seen


def test_a_pass_that_corrects_nothing_is_not_told(service: Service) -> None:
    service.start([sandbox(1), failure("broken", "why", cause="ENOSPC")])
    with service.reader() as reader:
        reader.follow()
        service.begin()
        service.tell([sandbox(1)])
        service.event(sandbox(2))
        service.event(unset=[sandbox(1).key])
        later = replace(failure("broken", "why", cause="ENOSPC"), time=NOW + timedelta(seconds=1))
        service.send(later, sandbox(2))  # the store has the time from another moment
        service.ready()
        service.event(sandbox(4))
        reader.follow()
        assert service.agrees(reader.known)
        assert reader.known.failures[failure("broken", "").key].cause == "ENOSPC"
        assert reader.seen["State"] == 1


def test_a_pass_that_corrects_something_is_told_to_all(service: Service) -> None:
    service.start([sandbox(1), sandbox(2), failure("broken", "why")])
    with service.reader() as one, service.reader() as other:
        one.follow()
        other.follow()
        service.begin()
        service.event(sandbox(3))
        service.lines.clear()
        service.tell([sandbox(2, change=1), sandbox(3), failure("broken", "another reason")])
        service.ready()
        for reader in (one, other):
            reader.until(lambda r=reader: r.seen["State"] == 2 and r.known.complete)  # type: ignore[misc]
            assert service.agrees(reader.known)
            assert reader.events == [1]
            assert reader.missed == [0]
        assert service.agrees(service.picture())


def test_lost_events_are_counted_and_the_state_comes_after_the_next_pass(service: Service) -> None:
    service.start([sandbox(1)])
    with service.reader() as reader:
        service.event(sandbox(2))
        reader.follow()
        for number in range(10, 15):
            service.event(sandbox(number), lost=True)
        service.event(sandbox(15))
        with service.reader() as late:
            service.start([*service.lines.values()])
            service.event(sandbox(16))
            assert service.agrees(late.follow())
            assert late.missed == []
        assert service.agrees(reader.follow())
        assert reader.missed == [6]


def test_the_end_of_a_pass_tells_of_events_that_were_lost_last(service: Service) -> None:
    service.start([sandbox(1)])
    with service.reader() as reader:
        reader.follow()
        service.event(sandbox(2), lost=True)
        service.start([*service.lines.values()])
        assert service.agrees(reader.follow())
        assert reader.missed == [1]


def test_what_changes_without_an_event_is_asked_for_once_for_all(service: Service) -> None:
    service.start([sandbox(1)])
    with service.reader() as one, service.reader() as other:
        one.follow()
        other.follow()
    assert service.asked == 1
    assert one.known.totals == other.known.totals


def test_after_a_reload_it_is_asked_for_anew(service: Service) -> None:
    service.start()
    with service.reader() as reader:
        reader.follow()
        assert service.asked == 1
        service.event(kind="reloaded")
        reader.follow()
        with service.reader() as other:
            other.follow()
            assert service.asked == 2


def test_a_service_that_does_not_answer_keeps_nobody_from_the_state(service: Service) -> None:
    service.start([sandbox(1)])
    with service.reader() as reader:
        while not reader.known.complete:
            assert reader.read(answers=False)
        assert service.agrees(reader.known)
        assert reader.known.totals is None
