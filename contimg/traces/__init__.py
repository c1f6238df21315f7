"""Traces of groups, made from ledger and attempt records.

In: rows, manifests, records. Out: spans, drawn in the terminal or sent by OTLP.
"""
