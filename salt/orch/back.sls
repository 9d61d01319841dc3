#!jinja|yaml
# One node back to local storage, once nothing works on it any more; a highstate is waited for by the queue.
# A number waits, `true` does not: https://github.com/saltstack/salt/issues/68694
# `data` and `committed` are those of the state ringfree_rollback.rolled_back.
{%- from 'orch/asked.jinja' import asked with context %}
{%- if asked.faults %}
{%- include 'orch/refused.jinja' %}
{%- else %}
{%- set node = asked.node %}

{{ (node ~ ' is at rest') | json }}:
  salt.runner:
    - name: ringfree.wait_idle
    - pillar: {{ asked.ringfree | json }}
    - nodes: [{{ node | json }}]
    - raises: false
    - failhard: false

{{ (node ~ ' is back on local storage') | json }}:
  salt.state:
    - tgt: [{{ node | json }}]
    - tgt_type: list
    - sls: ringfree.rollback
    - pillar: {{ {'data': asked.data, 'committed': asked.committed} | json }}
    - timeout: {{ asked.timeout | json }}
    - queue: 100
    - failhard: false
    - test: {{ opts['test'] | json }}
    - saltenv: base
    - require:
      - salt: {{ (node ~ ' is at rest') | json }}
{%- endif %}
