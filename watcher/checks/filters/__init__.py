"""The packet filters of the host, simulated: what becomes of a packet in them, and the remedy.

`host` reads the tables that are there, by `nftables` and `iptables`. `packets` makes a container's
packets, `fate` answers what becomes of them, and `remedies` says how to let them pass.
"""
