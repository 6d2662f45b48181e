"""The broker: what readers of the events socket get, however they read, and what that costs."""
