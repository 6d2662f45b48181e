"""The service's side of a cluster, told by a test what the registry has."""
