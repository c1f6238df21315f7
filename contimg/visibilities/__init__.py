"""Visibilities of a Measurement Set: reading, averaging, weighting, predicting; CASA in processes of its own.

In: a Measurement Set. Out: visibility cubes, averages and models as arrays.
"""
