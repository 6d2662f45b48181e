"""The gate: runc is held until its container has its network; and the mounts that it watches."""
