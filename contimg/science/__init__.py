"""Groups → Measurement Set → calibrator → caltables → image → mosaic. Pure functions on paths and arrays.

Nothing here knows of Snakemake, the ledger or the network. Heavy libraries are imported by the modules that need
them, and only one toolkit (python-casacore or casatools) is ever imported in one process.
"""
