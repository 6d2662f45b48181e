"""Containers that are moved into another's network namespace by their annotation alone."""
