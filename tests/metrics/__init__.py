"""What Prometheus gets: `watcher metrics`, its server, its unit's alerts and dashboard."""
