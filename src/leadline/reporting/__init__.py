"""Tables, figures and live progress of results."""
