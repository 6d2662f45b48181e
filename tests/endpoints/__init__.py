"""Endpoints: what a host tells others of its containers, and what `hosts.sock` tells of theirs."""
