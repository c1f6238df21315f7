"""Visibilities of a Measurement Set: reading, averaging, weighting, predicting; the toolkits' own processes.

In: a Measurement Set. Out: visibility cubes, averages and models as arrays.
"""
