"""What a model is made of, read from its builder and from one forward pass: no names are guessed."""
