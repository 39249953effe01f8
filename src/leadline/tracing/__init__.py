"""What a model is made of, read from its builder and from one forward pass: no names are guessed.

``survey`` reads everything, in this order:

    builder                      the models at three sizes, and example inputs
    kinds                        which numbers in names count layers; parameters that repeat
    graph, patterns              one forward pass as a graph; attention, weight norms, sums that grow
    branches                     residual branches, and where parameters stand in them
    roles                        what each parameter does, by the dimensions that grow with width
    fold, multipliers            where multipliers of the forward pass can go, and which are there
    draws, initialization        the builder's own initialization, from repeated draws

``held`` is about any module: what it holds beside its parameters, and calls with others in their place.
"""
