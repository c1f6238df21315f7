"""The DSA-110 telescope: stations, primary beam, raw files, the meridian phase centre, clock and Earth orientation.

In: raw files. Out: their headers and visibilities as arrays; constants with their sources.
"""
