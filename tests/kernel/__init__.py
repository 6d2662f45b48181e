"""What is said to the kernel over netlink, and what it says."""
