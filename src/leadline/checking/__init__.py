"""Small sizes trained for a few steps: do all layers learn at the same rate over width and depth?"""
