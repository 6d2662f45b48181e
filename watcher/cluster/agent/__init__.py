"""Closes the difference between this host's lease store and the registry.

- `link`: the connection to the service; `tables`: what each side has told.
- `standing`: whether this host is in the cluster, or why not.
- `rows`: what is told to the service; `finder`: what is to be changed in the registry; `look`:
  which of both, as this host stands. They only work it out.
- `missed`: notices what etcd has lost. `changer`: makes the changes.
- `agent`: looks whenever something has changed, and has it done.
"""
