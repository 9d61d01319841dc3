#!jinja|yaml
# The nodes from their SAN to the other, one after the other or all at once.
{%- from 'orch/asked.jinja' import asked with context %}
{%- if asked.faults %}
{%- include 'orch/refused.jinja' %}
{%- else %}
{%- set nodes = asked.nodes %}
{%- for node in nodes %}

# The nodes do not require each other: where the SAN is dead, one that fails must not keep the others down.
{{ (node ~ ' goes to the other SAN') | json }}:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.switch
    - pillar: {{ {'ringfree': asked.ringfree, 'node': node, 'before': [] if asked.at_once else nodes[:loop.index0],
                  'to': asked.to, 'accept_age': asked.accept_age, 'max_age': asked.max_age} | json }}
    - failhard: false
    {%- if asked.at_once and nodes | length > 1 %}
    - parallel: true
    {%- endif %}
{%- endfor %}
{%- endif %}
