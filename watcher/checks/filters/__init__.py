"""Simulates the packet filters of the host.

`host` reads the tables, with `nftables` and `iptables`. `packets` makes the packets of a container,
`fate` says which chains drop them, and `remedies` says how to let them pass.
"""
