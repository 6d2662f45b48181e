"""The project's words as data, frozen; nothing here knows where it came from."""
