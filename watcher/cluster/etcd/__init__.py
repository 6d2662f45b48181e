"""A narrow client of etcd 3, by its JSON gateway; it knows nothing of hosts and networks.

- `words`: what is asked and answered; `errors`: what goes wrong.
- `requests`: comparisons and operations, as they are written; `wire`: answers, as they are read.
- `members`: the members' URLs; `secrets`: the files with certificates, a key, a password.
- `resolver`: the addresses of members that are named.
- `transport`: one request to one member, with a deadline and a limit.
- `client`: requests to the first member that answers; `watch`: changes, whatever member tells them.
- `followed`: how far changes were told, and whether etcd still has the same ones.
"""
