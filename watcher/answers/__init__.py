"""What the name service answers is opened for who is held to names: heard, judged, acknowledged."""
