#!jinja|yaml
# On the monitoring host: what ran before the migration runs again.
Monitoring is back:
  ringfree_monitoring.restored:
    - failhard: false
