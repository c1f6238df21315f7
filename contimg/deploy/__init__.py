"""Deployment: a host's service user, folders, settings and systemd units; one release taking over from another.

In: the units in `deploy/`, places, a new release. Out: an installation that can be repeated and undone, and upgraded.
"""
