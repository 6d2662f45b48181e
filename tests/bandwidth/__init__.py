"""What an interface may receive and send: held to by token buckets, and healed."""
