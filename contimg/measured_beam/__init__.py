"""Primary beam measured from the telescope's own products.

In: source lists and sets of a data root, a sky catalogue. Out: a fitted beam with errors, as a table and a plot.
"""
