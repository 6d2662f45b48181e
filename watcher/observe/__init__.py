"""What shows people and programs what happens. No module of the service imports it."""
