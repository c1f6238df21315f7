"""Images of a window → mosaics, one a pointing.

In: images, noise and primary beams. Out: mosaic, weight, coverage, PNG, sidecar.
"""
