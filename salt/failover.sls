# salt-run state.orch failover pillar='{"nodes": ["node001"], "to": "secondary"}'
# Moves the containers of nodes (all of the pillar without "nodes") from the SAN in use to the other one, and by
# "to": "primary" back. Runs again: goes on where it stopped. "accept_age": true takes a copy that is older than
# ringfree:replication:max_age, "max_age" (seconds) sets another limit; "at_once": true takes all nodes side by side,
# for the day on which a SAN is dead.
{%- set ringfree = salt['pillar.get']('ringfree', {}) %}
{%- set nodes = salt['pillar.get']('nodes') or salt['pillar.get']('ringfree:nodes', []) %}
{%- set to = salt['pillar.get']('to', '') %}
{%- set accept_age = salt['pillar.get']('accept_age', false) %}
{%- set max_age = salt['pillar.get']('max_age') %}
{%- set at_once = salt['pillar.get']('at_once', false) %}
{%- set monitor = salt['pillar.get']('ringfree:monitoring:host') %}
{%- set timeout = salt['pillar.get']('ringfree:timeout', 120) %}

The master has the modules:
  salt.runner:
    - name: saltutil.sync_all

The failover begins:
  salt.runner:
    - name: ringfree.begin
    - what: failover
    - pillar: {{ ringfree | json }}
    - nodes: {{ nodes | json }}
    - raises: false
    - require:
      - salt: The master has the modules

The nodes have the modules and the pillar:
  salt.runner:
    - name: ringfree.sync
    - minions: {{ nodes | json }}
    - raises: false
    - require:
      - salt: The failover begins
{%- if monitor %}

# No failover waits for a monitoring host that is down, which is silent as it is.
The monitoring host has the modules and the pillar:
  salt.runner:
    - name: ringfree.sync
    - minions: [{{ monitor | json }}]
    - timeout: 10
    - raises: false
    - require:
      - salt: The failover begins
{%- endif %}

# Says for each node what is lost.
Nothing stands in the way:
  salt.runner:
    - name: ringfree.failover_plan
    - to: {{ to | json }}
    - nodes: {{ nodes | json }}
    - accept_age: {{ accept_age | json }}
    - max_age: {{ max_age | json }}
    - pillar: {{ ringfree | json }}
    - raises: false
    - require:
      - salt: The nodes have the modules and the pillar
{%- if monitor %}

Monitoring is silent:
  salt.state:
    - tgt: [{{ monitor | json }}]
    - tgt_type: list
    - sls: ringfree.monitoring.silent
    - timeout: {{ timeout }}
    - queue: 100
    - require:
      - salt: The monitoring host has the modules and the pillar
      - salt: Nothing stands in the way
{%- endif %}

# One step: it ends when the last node has ended, also of those that go at the same time.
The nodes go to the other SAN:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.switch_all
    - pillar: {{ {'ringfree': ringfree, 'nodes': nodes, 'to': to, 'accept_age': accept_age, 'max_age': max_age,
                  'at_once': at_once} | json }}
    - require:
      - salt: Nothing stands in the way

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

The failover ends:
  salt.runner:
    - name: ringfree.end
    - pillar: {{ ringfree | json }}
    - nodes: {{ nodes | json }}
    - require:
      - salt: The failover begins
