"""Foundation of every other package: errors, settings, paths, files and the chain of stages.

In: the settings files and the environment. Out: validated settings, the names of all products, writes that are
whole or not at all.
"""
