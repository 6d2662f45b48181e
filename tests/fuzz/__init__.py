"""Any bytes in place of what others write; what was ever found is in `corpus`."""
