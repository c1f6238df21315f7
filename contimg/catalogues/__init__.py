"""Tables of radio sources: calibrator lists, source lists, the sky catalogue.

In: CSV files. Out: sources with positions and flux densities.
"""
