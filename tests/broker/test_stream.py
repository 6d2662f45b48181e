"""What a reader gets: the state, one consistent picture with a number, and then each change."""

from __future__ import annotations

from tests.support.broker import Service, failure, sandbox
from watcher.feed.lines import Totals


def test_a_reader_gets_the_state_and_then_each_event(service: Service) -> None:
    service.seq = 41
    service.start([sandbox(1), sandbox(2), failure("broken", "why")])
    with service.reader() as reader:
        reader.until(lambda: reader.known.complete)
        assert service.agrees(reader.known)
        assert reader.known.seq == 41
        assert reader.known.networks["default"].bridge == "netns0"
        assert reader.known.roots["/run/runc"].held
        assert isinstance(reader.known.totals, Totals)
        assert reader.known.readers is not None
        assert reader.known.readers.now == 1
        service.event(sandbox(3))
        service.event(sandbox(1, change=1), unset=[failure("broken", "").key])
        service.event(unset=[sandbox(2).key])
        reader.follow()
        assert service.agrees(reader.known)
        assert reader.events == [42, 43, 44]
