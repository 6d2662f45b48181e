"""What an administrator installs, upgrades and runs under systemd, and what a release is."""
