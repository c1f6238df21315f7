"""The HTTP service: metrics, probes, alerts, dashboard.

In: ledger and files, read at each request. Out: HTTP; acknowledgements, silences and labels of alerts in the ledger.
"""
