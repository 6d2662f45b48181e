"""Changes to a sandbox while its containers run: networks that it is connected to or loses."""
