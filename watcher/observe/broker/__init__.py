"""The broker: a process of its own that serves the readers of the events socket.

The service starts it when the first reader connects, and hands it two descriptors: 3, one end of a
connection to the service, which sends lines of :mod:`watcher.feed.lines` (the feed); and 4, the
socket that readers connect to. It keeps the state, passes each event on, and ends when the feed
does, or when nobody has read for a while. It needs no capability and opens no file.
"""
