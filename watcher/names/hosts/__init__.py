"""What `hosts.sock` tells of other hosts fills the zone."""
