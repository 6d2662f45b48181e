"""The client of etcd: what it reads, and what it makes of servers that are no etcd."""
