"""The dashboard: pages that operators leave open, served with all that they need.

In: ledger and files, by the service's data source. Out: HTML, pictures, server-sent events.
"""
