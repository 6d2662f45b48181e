"""Bandwidth: what each interface of a sandbox may receive and send, held to by token buckets."""
