"""Antenna statistics by group: sensitivity, gain, delay, phase stability, faults and positions.

In: a group's receivers, set and field gains. Out: `<group>.antennas.json`; its history as table, picture and alarms.
"""
