#!jinja|yaml
# The old local copies of one node; a node that cannot be cleaned up does not keep the others from it.
{%- from 'orch/asked.jinja' import asked with context %}
{%- if asked.faults %}
{%- include 'orch/refused.jinja' %}
{%- else %}
{%- set node = asked.node %}

{{ (node ~ ' is cleaned up') | json }}:
  salt.state:
    - tgt: [{{ node | json }}]
    - tgt_type: list
    - sls: ringfree.cleanup
    - pillar: {{ {'consent': asked.consent} | json }}
    - timeout: {{ asked.timeout | json }}
    - queue: 100
    - failhard: false
    - test: {{ opts['test'] | json }}
    - saltenv: base
{%- endif %}
