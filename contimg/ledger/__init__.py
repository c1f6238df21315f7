"""The SQLite ledger: what files cannot say.

In: rows of groups, windows, attempts, calls, alerts. Out: the same, indexed; rebuilt from the files when lost.
"""
