"""Probes: questions to gateways and name servers, each on a socket of its own.

A socket belongs to the network namespace in which it was made (network_namespaces(7)). So a thread
makes the probes while it is in a sandbox's namespace, and asks all of them together from outside.
"""

from handlers.kernel.probes.addresses import AddressQuery
from handlers.kernel.probes.echo import Echo
from handlers.kernel.probes.neighbours import ArpRequest, Solicitation
from handlers.kernel.probes.probe import Probe, ask_all
from handlers.kernel.probes.resolvers import NameQuery

__all__ = ["AddressQuery", "ArpRequest", "Echo", "NameQuery", "Probe", "Solicitation", "ask_all"]
