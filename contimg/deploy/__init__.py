"""Deployment: the service user, folders, settings and systemd units of a host.

In: the units in `deploy/` and where things are to be. Out: an installation that can be repeated and undone.
"""
