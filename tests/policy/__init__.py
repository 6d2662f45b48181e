"""Where sandboxes may connect to, who may reach them, and how many connections there are."""
