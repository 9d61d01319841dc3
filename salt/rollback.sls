# salt-run state.orch rollback pillar='{"nodes": ["node001"]}'
# Brings nodes back to local storage, from anywhere in a migration or days after it. "data": "discard" or "sync_back"
# in the pillar says what becomes of what containers wrote on NFS; ringfree:rollback:data otherwise.
{%- set ringfree = salt['pillar.get']('ringfree', {}) %}
{%- set nodes = salt['pillar.get']('nodes', []) %}
{%- set data = salt['pillar.get']('data') %}
{%- set monitor = salt['pillar.get']('ringfree:monitoring:host') %}
{%- set timeout = salt['pillar.get']('ringfree:timeout', 120) %}

The master has the modules:
  salt.runner:
    - name: saltutil.sync_all

The rollback begins:
  salt.runner:
    - name: ringfree.begin
    - what: rollback
    - pillar: {{ ringfree | json }}
    - nodes: {{ nodes | json }}
    - raises: false
    - require:
      - salt: The master has the modules

{%- for node in nodes %}

# Each for itself, at the same time: a node that does not answer keeps no other one from going back.
{{ node }} has the modules and the pillar:
  salt.runner:
    - name: ringfree.sync
    - minions: [{{ node | json }}]
    - raises: false
    {%- if nodes | length > 1 %}
    - parallel: true
    {%- endif %}
    - require:
      - salt: The rollback begins
{%- endfor %}
{%- if monitor %}

# No way back waits for a monitoring host that is down, which is silent as it is.
The monitoring host has the modules and the pillar:
  salt.runner:
    - name: ringfree.sync
    - minions: [{{ monitor | json }}]
    - timeout: 10
    - raises: false
    - require:
      - salt: The rollback begins

Monitoring is silent:
  salt.state:
    - tgt: [{{ monitor | json }}]
    - tgt_type: list
    - sls: ringfree.monitoring.silent
    - timeout: {{ timeout }}
    - queue: 100
    - require:
      - salt: The monitoring host has the modules and the pillar
{%- endif %}

{%- for node in nodes %}

{{ node }} goes back:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.back
    - pillar: {{ {'ringfree': ringfree, 'node': node, 'data': data} | json }}
    - require:
      - salt: {{ node }} has the modules and the pillar
{%- endfor %}

{%- if monitor %}

# Whatever became of the nodes.
Monitoring is back:
  salt.state:
    - tgt: [{{ monitor | json }}]
    - tgt_type: list
    - sls: ringfree.monitoring.restored
    - timeout: {{ timeout }}
    - queue: 100
    - require:
      - salt: The monitoring host has the modules and the pillar
{%- endif %}

The rollback ends:
  salt.runner:
    - name: ringfree.end
    - pillar: {{ ringfree | json }}
    - nodes: {{ nodes | json }}
    - require:
      - salt: The rollback begins
