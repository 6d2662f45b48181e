"""The firewall, the guard, and the firewalls of others."""
