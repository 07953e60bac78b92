"""Metrics that machines read: one collector for Prometheus, of one manager or many.

Needs the extra ``metrics`` (prometheus-client). A dashboard for Grafana is beside it:
`dashboard` returns it.
"""

from veeam_tasks.metrics._collector import Collector, dashboard, serve

__all__ = ["Collector", "dashboard", "serve"]
