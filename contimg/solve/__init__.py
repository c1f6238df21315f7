"""Calibration on a calibrator group: its set of caltables.

In: a Measurement Set and its calibrator. Out: delays, bandpass, gains, a picture, the set's quality.
"""
