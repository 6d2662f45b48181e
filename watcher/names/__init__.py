"""The name service: a process that answers what containers ask by DNS.

The way of a question through the rooms:

- `transport/`: sockets on the gateways; questions and answers by UDP and TCP.
- `answers`: answers at once, or when it is known who asks (`waiting`), or when a server has.
- `wire/`: what a question says, and how an answer begins and ends.
- `zone/`: the names that are ours: who is called what, and who may know.
- `opening/`: which names a list of `egress` allows, and answers that wait until they open.
- `upstream/`: all other names: servers, and the cache of their answers.

`events/` follows the events socket and fills the zone. `server` puts all of it together.
"""
