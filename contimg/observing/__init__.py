"""Requests for calibrator observations.

In: coverage of the calibration to come. Out: a request file for the observatory's scheduler.
"""
