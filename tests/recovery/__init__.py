"""What is put right: after a kill, a loss, a change by others, or whatever else has happened."""
