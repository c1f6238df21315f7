"""Calibrators and their transits.

In: catalogues, a group's header. Out: the calibrator that transits in a group, and future transit times.
"""
