"""Facts: what happened to containers and sandboxes, published once, as data.

A kernel event (:mod:`watcher.events`) makes the program look; what it then finds and does is a
fact.
"""
