"""Closes the networks whose sandboxes are held to lists, even while there are no nftables rules.

The rules of nftables set one bit of the packet mark on what such a network may send. Rules of
ip-rule(8), which outlive `nft flush ruleset`, drop what comes from the network without that bit,
before the kernel looks up any route, even one to the host itself::

    0:  from all iif lo goto 1                                    if there is one with a subnet
    0:  from 172.20.0.0/16 fwmark 0/0x10000000 blackhole          a routed network
    0:  from all to 172.20.0.0/16 fwmark 0/0x10000000 blackhole   a network with lists of sources
    0:  from all fwmark 0/0x10000000 iif netns0 blackhole         a bridge
    0:  from all lookup local                                     the kernel's own, behind ours
    1:  from all iif lo lookup local                              with the first one

A routed network has no interface of its own, and the host has the gateway's address there: so the
host's packets pass by those rules. What goes to a network with lists of sources needs the bit as
well (:mod:`handlers.firewall.ingress`): even a packet whose answer is lost would begin a
connection, which is not judged later. Nothing is answered: what is lost while rules are repaired is
sent again, while an ICMP error would end the attempt.
"""
