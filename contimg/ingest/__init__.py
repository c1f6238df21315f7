"""Raw files → groups and their manifests, and quarantine for those that cannot be used.

In: `incoming/`. Out: `groups/<group>.json`, with the state of every subband; `quarantine/<group>/`, with the reason.
"""
