"""Which sandboxes there are on which host: told to the registry, and to the readers of this host.

An *endpoint* is a sandbox as other hosts know it: what its containers are called, and its addresses
in clustered networks. :class:`.publisher.Publisher` writes those of this host to the registry, and
:class:`.server.HostsServer` serves those of the others, with the hosts, at `hosts.sock`. What the
registry has is told to both by :class:`.endpoints.Endpoints`.
"""
