"""The service's side of the cluster: what it tells `watcher cluster`, and does for it."""
