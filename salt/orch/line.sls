#!jinja|yaml
# The nodes in their order: the first one alone, then in batches. The first failure stops the line.
{%- from 'orch/asked.jinja' import asked with context %}
{%- if asked.faults %}
{%- include 'orch/refused.jinja' %}
{%- else %}
{%- set nodes = asked.nodes %}
{%- set line = [] %}
{%- for batch in [nodes[:1]] + nodes[1:] | batch(asked.batch) | list %}
{%- set before = line[:] %}
{%- do line.clear() %}
{%- for node in batch %}
{%- do line.append(node ~ ' moves to NFS') %}

{{ (node ~ ' moves to NFS') | json }}:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.node
    - pillar: {{ {'ringfree': asked.ringfree, 'node': node} | json }}
    - failhard: false
    {%- if batch | length > 1 %}
    - parallel: true
    {%- endif %}
    {%- if before %}
    - require:
      {%- for id in before %}
      - salt: {{ id | json }}
      {%- endfor %}
    {%- endif %}
{%- endfor %}
{%- endfor %}
{%- endif %}
