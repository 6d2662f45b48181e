"""Names: who is called what, and the answers to questions; real messages, real resolvers."""
