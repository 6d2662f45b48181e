"""The configuration: what it can say, and how its file is read and checked."""
