"""Many hosts: three of them in namespaces on an underlay of two links, and a real etcd."""
