"""The gate holds the runtime until the container has its network."""
