"""The lease store, its schema, and the choice of addresses and host ports."""
