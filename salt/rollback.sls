#!jinja|yaml
# salt-run state.orch rollback pillar='{"nodes": ["node001"]}'
# Brings nodes back to local storage, from anywhere in a migration or days after it. "data": "discard" or "sync_back"
# in the pillar says what becomes of what containers wrote on NFS; ringfree:rollback:data otherwise.
{%- from 'orch/asked.jinja' import asked with context %}
{%- if asked.faults %}
{%- include 'orch/refused.jinja' %}
{%- else %}
{%- set nodes = asked.nodes %}

The master has the modules:
  salt.runner:
    - name: saltutil.sync_all
    - failhard: false

The rollback begins:
  salt.runner:
    - name: ringfree.begin
    - what: rollback
    - pillar: {{ asked.ringfree | json }}
    - nodes: {{ nodes | json }}
    - raises: false
    - failhard: false
    - require:
      - salt: The master has the modules

{%- for node in nodes %}

# Each for itself, at the same time: a node that does not answer keeps no other one from going back.
{{ (node ~ ' has the modules and the pillar') | json }}:
  salt.runner:
    - name: ringfree.sync
    - minions: [{{ node | json }}]
    - raises: false
    - failhard: false
    {%- if nodes | length > 1 %}
    - parallel: true
    {%- endif %}
    - require:
      - salt: The rollback begins
{%- endfor %}
{%- if asked.monitor %}

# No way back waits for a monitoring host that is down, which is silent as it is.
The monitoring host has the modules and the pillar:
  salt.runner:
    - name: ringfree.sync
    - minions: [{{ asked.monitor | json }}]
    - timeout: 10
    - raises: false
    - failhard: false
    - require:
      - salt: The rollback begins

Monitoring is silent:
  salt.state:
    - tgt: [{{ asked.monitor | json }}]
    - tgt_type: list
    - sls: ringfree.monitoring.silent
    - timeout: {{ asked.timeout | json }}
    - queue: 100
    - failhard: false
    - test: {{ opts['test'] | json }}
    - saltenv: base
    - require:
      - salt: The monitoring host has the modules and the pillar
{%- endif %}

{%- for node in nodes %}

{{ (node ~ ' goes back') | json }}:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.back
    - pillar: {{ {'ringfree': asked.ringfree, 'node': node, 'data': asked.data} | json }}
    - failhard: false
    - require:
      - salt: {{ (node ~ ' has the modules and the pillar') | json }}
{%- endfor %}

{%- if asked.monitor %}

# Whatever became of the nodes.
Monitoring is back:
  salt.state:
    - tgt: [{{ asked.monitor | json }}]
    - tgt_type: list
    - sls: ringfree.monitoring.restored
    - timeout: {{ asked.timeout | json }}
    - queue: 100
    - failhard: false
    - test: {{ opts['test'] | json }}
    - saltenv: base
    - require:
      - salt: The monitoring host has the modules and the pillar
{%- endif %}

The rollback ends:
  salt.runner:
    - name: ringfree.end
    - pillar: {{ asked.ringfree | json }}
    - nodes: {{ nodes | json }}
    - failhard: false
    - require:
      - salt: The rollback begins
{%- endif %}
