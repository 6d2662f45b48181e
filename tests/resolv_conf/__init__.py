"""`/etc/resolv.conf` of containers: there at the first instruction, and nowhere else."""
