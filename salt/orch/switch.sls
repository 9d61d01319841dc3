#!jinja|yaml
# One node from its SAN to the other. What fails leaves the node guarded; the same orchestration goes on, or the other
# way.
{%- from 'orch/asked.jinja' import asked with context %}
{%- if asked.faults %}
{%- include 'orch/refused.jinja' %}
{%- else %}
{%- set node = asked.node %}

# No other job works on it; and while its SAN answers nothing is at stake, so that the first failure ends the line.
{{ (node ~ ' may leave its SAN') | json }}:
  salt.runner:
    - name: ringfree.failover_gate
    - node: {{ node | json }}
    - before: {{ asked.before | json }}
    - pillar: {{ asked.ringfree | json }}
    - raises: false
    - failhard: true

{{ (node ~ ' runs from the other SAN') | json }}:
  salt.state:
    - tgt: [{{ node | json }}]
    - tgt_type: list
    - sls: ringfree.failover
    - pillar: {{ {'to': asked.to, 'accept_age': asked.accept_age, 'max_age': asked.max_age} | json }}
    - timeout: {{ asked.timeout | json }}
    - queue: 100
    - test: {{ opts['test'] | json }}
    - saltenv: base
    - failhard: true
{%- endif %}
