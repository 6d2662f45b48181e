"""Reads containers: the runtime's files, `/proc` and annotations."""
