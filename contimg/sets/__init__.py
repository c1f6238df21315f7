"""Calibration sets: which set, or two, serves a target, and how its gains are interpolated.

In: the sets of a data root. Out: a selection with its verdict; gains at the times of a target.
"""
