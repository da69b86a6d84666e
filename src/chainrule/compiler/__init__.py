"""The compiler, from a graph to loops over memory. Each pass is a file of its own; ``pipeline`` lists them in order."""
