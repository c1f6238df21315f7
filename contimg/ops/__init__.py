"""What keeps the pipeline alive: alerts, retention, archive, backup and restore."""
