#!jinja|yaml
# One node from local storage to NFS, and back when a part of that fails. What fails stays a failure, also when the node
# is back in order.
{%- from 'orch/asked.jinja' import asked with context %}
{%- if asked.faults %}
{%- include 'orch/refused.jinja' %}
{%- else %}
{%- set node = asked.node %}

{{ (node ~ ' goes through every part') | json }}:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.parts
    - pillar: {{ {'ringfree': asked.ringfree, 'node': node} | json }}
    - failhard: false

# Only from the middle of a migration: a node that was committed stays on NFS, whatever fails on it later.
{{ (node ~ ' goes back') | json }}:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.back
    - pillar: {{ {'ringfree': asked.ringfree, 'node': node, 'committed': false} | json }}
    - failhard: false
    - onfail:
      - salt: {{ (node ~ ' goes through every part') | json }}
{%- endif %}
