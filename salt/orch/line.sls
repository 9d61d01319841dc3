# The nodes in their order: the first one alone, then in batches. The first failure stops the line.
{%- set ringfree = pillar['ringfree'] %}
{%- set nodes = pillar['nodes'] %}
{%- set line = [] %}
{%- for batch in [nodes[:1]] + nodes[1:] | batch(ringfree.get('batch', 1)) | list %}
{%- set before = line[:] %}
{%- do line.clear() %}
{%- for node in batch %}
{%- do line.append(node ~ ' moves to NFS') %}

{{ node }} moves to NFS:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.node
    - pillar: {{ {'ringfree': ringfree, 'node': node} | json }}
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
