"""Tables of radio sources: the catalogues of users, source lists, the sky catalogue.

In: CSV files. Out: sources with positions and flux densities.
"""
