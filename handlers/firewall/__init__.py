"""The firewall: this program's rules, and exceptions for our traffic in other firewalls."""
