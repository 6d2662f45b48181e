"""The tests, each in the room of what it is about; what is no test is in `support`."""
