"""Calibrated target → image.

In: a Measurement Set and a selection of sets. Out: image, noise, primary beam, PNG, sidecar with its quality.
"""
