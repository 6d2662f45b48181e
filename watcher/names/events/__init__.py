"""The events socket, followed: what it tells fills the zone."""
