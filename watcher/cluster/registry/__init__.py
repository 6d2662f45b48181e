"""What the hosts of a cluster agree on, in etcd.

- `keys`: where it is; `records`: what it says; `picture`: all of it at one revision.
- `follow`: keeps the picture up to date.
- `changes`: transactions that change it, each with what must hold for it.
- `choice`: which block to take.
- `removal`: gives back what a host has that is gone for good.
"""
