"""The configuration: its keys, and how its file is read and checked."""
