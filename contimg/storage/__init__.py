"""Archive, backup, restore and retention.

In: products that have served, and settings. Out: archives, snapshots, room on the disks.
"""
