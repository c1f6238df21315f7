"""What starts now: a pure function of a snapshot of queue, running calls and resources.

In: a snapshot. Out: a plan: calls to start, and why the rest waits.
"""
