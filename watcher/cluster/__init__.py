"""`watcher cluster`: speaks to etcd for the service; a process of its own."""
