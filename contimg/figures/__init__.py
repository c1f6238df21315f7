"""Pictures: quick-look PNGs of images, mosaics and calibration sets.

In: arrays. Out: PNG files.
"""
