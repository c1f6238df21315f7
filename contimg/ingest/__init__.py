"""Raw files → groups and their manifests.

In: `incoming/`. Out: `groups/<group>.json`, with the state of every subband.
"""
