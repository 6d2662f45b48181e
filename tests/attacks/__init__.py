"""What an attacker would do: each is done, and comes to nothing."""
