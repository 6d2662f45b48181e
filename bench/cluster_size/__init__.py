"""A cluster of 1,000 hosts with 100,000 endpoints, by a real etcd: `python -m bench.cluster_size`.

Real are etcd, `watcher run` and `watcher cluster` of one host, and `watcher cluster` of a few more
with a played service. The others are what etcd has of them, their watches, which a program in C
reads, and their writers: each host has this program's own publisher, all in one process. All of it
is in network and mount namespaces of its own. It needs root, gcc, and Debian's etcd-server.
docs/performance.md has a report.
"""
