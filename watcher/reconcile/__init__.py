"""Works out what each container should have, and makes it so."""
