"""Validation of images and mosaics: gated measurements against references, overlaps and the primary beam.

In: an image's pixels and sources, a catalogue or other epochs' source lists. Out: gated measurements, and a page.
"""
