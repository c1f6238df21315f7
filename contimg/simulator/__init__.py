"""Simulated raw files of a known sky: sources, gains, noise, interference and faults of the correlator.

In: a scenario. Out: UVH5 files as the correlator writes them, and the truth beside them.
"""
