"""Schedule of calls: a pure function of a snapshot of queue, running calls and resources.

In: ledger, disks and running calls at one moment. Out: a plan with the calls to start, and why the rest waits.
"""
