"""Averaged visibilities → a cleaned image.

In: averaged visibilities of a group. Out: restored image, residual, restoring beam.
"""
