#!jinja|yaml
# On the monitoring host: quiet for the time of a migration.
{%- set monitoring = salt['ringfree_settings.get']().monitoring %}

Monitoring is silent:
  ringfree_monitoring.silent:
    - services: {{ monitoring.services | json }}
    - expiry: {{ monitoring.expiry | json }}
    - failhard: false
