"""What sandboxes may open connections to, how much they may send, and who may reach them."""
