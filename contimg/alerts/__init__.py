"""Alerts: conditions, channels, delivery.

In: ledger and files. Out: alerts opened and resolved, messages sent.
"""
