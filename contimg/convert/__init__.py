"""Raw files of a group → one flagged Measurement Set.

In: a manifest. Out: `ms/<date>/<group>.ms` and its sidecar.
"""
