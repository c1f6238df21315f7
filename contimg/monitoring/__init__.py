"""Monitoring files for Prometheus, Alertmanager and Grafana.

In: alert conditions, objectives, load goals. Out: rules, configurations and dashboards under `deploy/`.
"""
