"""What happens to containers and sandboxes, published once, as data.

A fact is not a signal: what the kernel tells (:mod:`watcher.events`) only makes the program look
again, and what it then finds and does is published here.
"""
