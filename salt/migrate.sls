# salt-run state.orch migrate
# Moves the nodes of the pillar (or pillar='{"nodes": ["node001"]}') to NFS: the first one alone, then in batches.
# With pillar='{"deadline": "04:30"}' all is over by then: moved, or back on local storage.
# Runs again: continues where it stopped, and finds nothing to do on nodes that are on NFS.
{%- set ringfree = salt['pillar.get']('ringfree', {}) %}
{%- set nodes = salt['pillar.get']('nodes') or salt['pillar.get']('ringfree:nodes', []) %}
{%- set monitor = salt['pillar.get']('ringfree:monitoring:host') %}
{%- set minions = nodes + [monitor] if monitor else nodes %}
{%- set timeout = salt['pillar.get']('ringfree:timeout', 120) %}

The master has the modules:
  salt.runner:
    - name: saltutil.sync_all

The migration begins:
  salt.runner:
    - name: ringfree.begin
    - what: migrate
    - deadline: {{ salt['pillar.get']('deadline') | json }}
    - pillar: {{ ringfree | json }}
    - nodes: {{ nodes | json }}
    - raises: false
    - require:
      - salt: The master has the modules

The minions have the modules and the pillar:
  salt.runner:
    - name: ringfree.sync
    - minions: {{ minions | json }}
    - raises: false
    - require:
      - salt: The migration begins

Every node is fit to move:
  salt.runner:
    - name: ringfree.preflight
    - pillar: {{ ringfree | json }}
    - nodes: {{ nodes | json }}
    - raises: false
    - require:
      - salt: The minions have the modules and the pillar

{%- if monitor %}

# Left alone when every node is on NFS already. A runner's question, as `onlyif` has Salt load every state module.
Monitoring is silent:
  salt.runner:
    - name: ringfree.silence
    - pillar: {{ ringfree | json }}
    - nodes: {{ nodes | json }}
    - raises: false
    - require:
      - salt: Every node is fit to move
{%- endif %}

# One step: it ends when the last node has ended, also of those that move at the same time.
The nodes move:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.line
    - pillar: {{ {'ringfree': ringfree, 'nodes': nodes} | json }}
    - require:
      - salt: {{ 'Monitoring is silent' if monitor else 'Every node is fit to move' }}

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
      - salt: The migration begins
{%- endif %}

The migration ends:
  salt.runner:
    - name: ringfree.end
    - pillar: {{ ringfree | json }}
    - nodes: {{ nodes | json }}
    - require:
      - salt: The migration begins
