"""How wide the start of a registration is."""
