"""Who may open connections to where: lists as users write them, and what follows from them."""
