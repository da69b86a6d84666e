"""From a graph to loops over memory: passes, each in its own file, in the order of ``pipeline``."""
