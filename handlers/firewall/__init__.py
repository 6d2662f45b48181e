"""The firewall: this program's rules, and how other firewalls let our traffic pass."""
