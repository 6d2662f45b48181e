"""Follows the events socket in an event loop, for processes that serve others meanwhile."""
