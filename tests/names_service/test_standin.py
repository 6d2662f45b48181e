from tests.support.host import GATEWAY, Host
from tests.support.name_service import NameService, addresses, ask


def test_host(served: Host) -> None:
    names = NameService(served).hears()
    web = served.attach("web")
    for tcp in (False, True):
        assert addresses(ask(web.place, "host.watcher.internal", server=GATEWAY, tcp=tcp)) == {
            GATEWAY
        }
    names.stop()
