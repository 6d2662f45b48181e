"""What answers of the name service open: after they were judged, and no longer than they last."""
