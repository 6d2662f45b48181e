"""The service itself: its start and end, its threads and its log."""
