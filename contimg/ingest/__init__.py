"""Raw files → groups and their manifests, and quarantine of unusable groups and files.

In: `incoming/`. Out: `groups/<group>.json`, with the state of every subband; `quarantine/<group>/`, with the reason.
"""
