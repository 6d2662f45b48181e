"""What happens to hosts that agree by a real etcd, and what must hold after each step of that.

- At each change of a lease store: no address is leased twice, nor can it be (:class:`Holdings`).
- After each step: what a host leases from is its own in etcd.
- After etcd was restored: each host that reaches it puts back what it had.
- In the end, when all is well: each host has what etcd has for it, nothing of anybody else is left
  there, each address of the subnet can be leased, and claimed by another host.

Hosts are excused that may not have heard yet that what they have is not theirs any more, in the
histories that docs/cluster.md names; so are the containers that they had then.

- `judged`: the hosts, and what must hold of them; `containers`, `faults`, `removals`, `restores`:
  what is done; `history`: all of it, and how it ends.
"""
