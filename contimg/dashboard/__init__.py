"""Dashboard: live pages for operators, with their own scripts and styles.

In: ledger and files, by the service's data source. Out: HTML, pictures, server-sent events.
"""
