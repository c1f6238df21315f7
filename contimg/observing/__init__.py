"""Requests for calibrator observations.

In: the coverage of calibration to come. Out: a request file for the observatory's scheduler.
"""
