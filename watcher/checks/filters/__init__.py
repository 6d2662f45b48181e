"""What becomes of a packet in the firewalls of the host."""
