"""What every other package uses: errors, settings, paths and files.

In: the settings files and the environment. Out: validated settings, the names of all products, writes that are
whole or not at all.
"""
