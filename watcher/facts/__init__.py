"""Facts: what happened to containers and sandboxes, published once, as data.

A kernel event (:mod:`watcher.events`) makes the program look; a fact is what it finds and does.
"""
