"""First light: assumptions on the raw data, tested on a group.

In: a folder of raw files. Out: one page of findings, each with the expected, the found, and the setting to change.
"""
