"""First light: test of the assumptions on raw data with a real group.

In: a folder of raw files. Out: one page of findings, each with the expected, the found, and the setting to change.
"""
