"""The images of a window → its mosaic.

In: images, noise and primary beams. Out: mosaic, weight, coverage, PNG, sidecar.
"""
