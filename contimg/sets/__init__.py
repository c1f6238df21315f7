"""Calibration sets: choice of the set, or two, that serves a target, and interpolation of gains.

In: the sets of a data root. Out: a selection with its verdict; gains at the times of a target.
"""
