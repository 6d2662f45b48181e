from tests.support.host import BEYOND, HostMaker
def test_x(make_host: HostMaker) -> None:
    host = make_host()
    host.service()
    a = {"io.watcher.egress-bandwidth": "100M","io.watcher.ingress-bandwidth":"10M"}
    web = host.attach("web", annotations=a)
    print(host.command("sh","-c","tc -s qdisc show; tc filter show dev "+web.veth+" ingress; ip -d link show type ifb; ip addr").stdout)
    host.beyond.serve(tcp=(80,))
    assert web.reach(BEYOND,80) is not None
    print(host.watcher("sync","--dry-run").stdout)
    print(host.command("sh","-c","tc -s qdisc show").stdout)
    host.delete("web")
    host.empty()
    print(host.command("sh","-c","ip link").stdout)
    assert 0
