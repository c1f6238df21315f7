"""Archive, backup, restore and retention.

In: finished products, settings. Out: archive bundles, snapshots, free disk space.
"""
