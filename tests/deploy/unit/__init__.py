"""The unit as it is shipped, in systemd's hands: it runs what the tests run."""
