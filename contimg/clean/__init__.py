"""Imaging and deconvolution (CLEAN) of averaged visibilities.

In: averaged visibilities of a group. Out: restored image, residual, restoring beam.
"""
