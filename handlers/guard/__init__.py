"""The guard: a program on a sandbox's link that holds it to its MAC and its addresses."""
