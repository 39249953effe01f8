"""What a function, a module or an object is: a digest of what it does, the same in every process."""
