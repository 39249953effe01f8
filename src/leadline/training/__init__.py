"""Training dense networks, several seeds at once."""
