"""The gate: the runtime is held until a container has its network."""
