#!jinja|yaml
# salt-run state.orch migrate
# Moves the nodes of the pillar (or pillar='{"nodes": ["node001"]}') to NFS: the first one alone, then in batches.
# With pillar='{"deadline": "04:30"}' all is over by then: moved, or back on local storage.
# Runs again: continues where it stopped, and finds nothing to do on nodes that are on NFS.
# With test=True it says what it would do, as `salt-run ringfree.plan` does, and changes nothing.
{%- from 'orch/asked.jinja' import asked with context %}
{%- if asked.faults %}
{%- include 'orch/refused.jinja' %}
{%- elif opts['test'] %}
{%- include 'orch/planned.jinja' %}
{%- else %}
{%- set nodes = asked.nodes %}
{%- set minions = nodes + [asked.monitor] if asked.monitor and asked.monitor not in nodes else nodes %}

The master has the modules:
  salt.runner:
    - name: saltutil.sync_all
    - failhard: false

The migration begins:
  salt.runner:
    - name: ringfree.begin
    - what: migrate
    - deadline: {{ asked.deadline | json }}
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
      - salt: The migration begins

Every node is fit to move:
  salt.runner:
    - name: ringfree.preflight
    - pillar: {{ asked.ringfree | json }}
    - nodes: {{ nodes | json }}
    - raises: false
    - failhard: false
    - require:
      - salt: The minions have the modules and the pillar

{%- if asked.monitor %}

# Left alone when every node is on NFS already. A runner's question, as `onlyif` has Salt load every state module.
Monitoring is silent:
  salt.runner:
    - name: ringfree.silence
    - pillar: {{ asked.ringfree | json }}
    - nodes: {{ nodes | json }}
    - raises: false
    - failhard: false
    - require:
      - salt: Every node is fit to move
{%- endif %}

# One step: it ends when the last node has ended, also of those that move at the same time.
The nodes move:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.line
    - pillar: {{ {'ringfree': asked.ringfree, 'nodes': nodes} | json }}
    - failhard: false
    - require:
      - salt: {{ ('Monitoring is silent' if asked.monitor else 'Every node is fit to move') | json }}

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
      - salt: The migration begins
{%- endif %}

The migration ends:
  salt.runner:
    - name: ringfree.end
    - pillar: {{ asked.ringfree | json }}
    - nodes: {{ nodes | json }}
    - failhard: false
    - require:
      - salt: The migration begins
{%- endif %}
