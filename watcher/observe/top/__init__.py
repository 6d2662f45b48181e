"""`watcher top`: traffic by container, live.

A thread takes a picture of the events socket every few seconds (:mod:`.sampler`). The counters of
two pictures make rates (:mod:`.rates`), and these make lines (:mod:`.columns`, :mod:`.view`), for a
terminal (:mod:`.terminal`, :mod:`.live`) or as a table (:mod:`.once`).
"""
