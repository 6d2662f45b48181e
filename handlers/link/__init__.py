"""Veth pairs: the host end, the sandbox end, and what they lead to."""
