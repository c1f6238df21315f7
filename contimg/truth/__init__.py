"""Whether products can be believed: validation of images and mosaics.

In: an image's pixels and sources, a catalogue or other epochs' source lists. Out: gated measurements, and a page.
"""
