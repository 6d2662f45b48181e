"""Messages as they are sent: questions read, and what all answers have in common."""
