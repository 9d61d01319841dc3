#!jinja|yaml
# The copy of the SAN in use on the other one is made again and again, by the node that the pillar names. Salt's own
# scheduler does it; the direction is found at each time by what is mounted.
{%- set ringfree = salt['ringfree_settings.get']() %}

The other SAN is kept up to date:
{%- if ringfree.replication.node == grains['id'] %}
  schedule.present:
    - name: ringfree_replication
    - function: ringfree_replica.replicate
    - seconds: {{ ringfree.replication.every | json }}
    - maxrunning: 1
    - return_job: false
    - failhard: false
{%- else %}
  schedule.absent:
    - name: ringfree_replication
    - failhard: false
{%- endif %}
