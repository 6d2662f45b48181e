"""The checks of a host that is in a cluster; they find nothing on one that is in none.

- `state`: what the service and `watcher cluster` tell, and what this host holds.
- `registry`: etcd, and what it has.
- `underlay`: this host's address, and how packets get to the others.
- `routes`: what other hosts have, and the routes to that.
- `filters`: other firewalls that drop what hosts send each other.
"""
