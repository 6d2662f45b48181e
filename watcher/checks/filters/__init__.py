"""Simulates the packet filters of the host.

`host` reads the tables, with `nftables` and `iptables`. `packets` makes a container's packets,
`fate` finds the chains that drop them, and `remedies` explains how to let them pass.
"""
