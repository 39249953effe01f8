"""How the loss falls with size: laws fitted to runs, with intervals."""
