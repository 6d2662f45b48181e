"""The configuration file, and the limits that it sets."""
