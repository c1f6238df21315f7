"""Antennas group by group: sensitivity, gain, delay, phase stability, what fails, and where they stand.

In: a group's receivers, set and field gains. Out: `<group>.antennas.json`; its history as table, picture and alarms.
"""
