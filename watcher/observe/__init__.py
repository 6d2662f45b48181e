"""What shows people and programs what happens. No module of the service imports it.

:mod:`.broker` serves the events socket, and :mod:`.stream` reads it. Readers are :mod:`.metrics`,
:mod:`.top`, and for `watcher events` :mod:`.following`, which reads the :mod:`.history` as well.
"""
