"""FITS planes: reading, writing and checking.

In: a path. Out: pixels and WCS, or the reason why the file is not whole.
"""
