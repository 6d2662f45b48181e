"""What the events socket tells fills the zone."""
