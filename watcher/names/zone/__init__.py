"""The names that are ours: who is called what, who may know, and the answers that say so."""
