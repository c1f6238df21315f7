"""FITS planes: reading, writing and checking.

In: a path. Out: pixels and WCS, or whether the file is whole.
"""
