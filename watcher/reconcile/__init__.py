"""What should be, and getting there."""
