#!jinja|yaml
# salt-run state.orch presync
# Copies the containers of the nodes while they run; for the days before. Runs again as often as you like.
{%- from 'orch/asked.jinja' import asked with context %}
{%- if asked.faults %}
{%- include 'orch/refused.jinja' %}
{%- else %}
{%- set nodes = asked.nodes %}
{%- set minions = nodes + [asked.monitor] if asked.monitor and asked.monitor not in nodes else nodes %}

The master has the modules:
  salt.runner:
    - name: saltutil.sync_all
    - failhard: false

The pre-sync begins:
  salt.runner:
    - name: ringfree.begin
    - what: presync
    - pillar: {{ asked.ringfree | json }}
    - nodes: {{ nodes | json }}
    - raises: false
    - failhard: false
    - require:
      - salt: The master has the modules

The minions have the modules and the pillar:
  salt.runner:
    - name: ringfree.sync
    - minions: {{ minions | json }}
    - raises: false
    - failhard: false
    - require:
      - salt: The pre-sync begins

Every node is fit to move:
  salt.runner:
    - name: ringfree.preflight
    - pillar: {{ asked.ringfree | json }}
    - nodes: {{ nodes | json }}
    - raises: false
    - failhard: false
    - require:
      - salt: The minions have the modules and the pillar

{%- for node in nodes %}

{{ (node ~ ' is nearly copied') | json }}:
  salt.state:
    - tgt: [{{ node | json }}]
    - tgt_type: list
    - sls: ringfree.presync
    - timeout: {{ asked.timeout | json }}
    - queue: 100
    - failhard: false
    - test: {{ opts['test'] | json }}
    - saltenv: base
    - require:
      - salt: Every node is fit to move
{%- endfor %}

The pre-sync ends:
  salt.runner:
    - name: ringfree.end
    - pillar: {{ asked.ringfree | json }}
    - nodes: {{ nodes | json }}
    - failhard: false
    - require:
      - salt: The pre-sync begins
{%- endif %}
