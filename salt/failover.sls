#!jinja|yaml
# salt-run state.orch failover pillar='{"nodes": ["node001"], "to": "secondary"}'
# Moves the containers of nodes (all of the pillar without "nodes") from the SAN in use to the other one, and by
# "to": "primary" back. Runs again: goes on where it stopped. "accept_age": true takes a copy that is older than
# ringfree:replication:max_age, "max_age" (seconds) sets another limit; "at_once": true takes all nodes side by side,
# for the day on which a SAN is dead.
{%- from 'orch/asked.jinja' import asked with context %}
{%- if asked.faults %}
{%- include 'orch/refused.jinja' %}
{%- else %}
{%- set nodes = asked.nodes %}

The master has the modules:
  salt.runner:
    - name: saltutil.sync_all
    - failhard: false

The failover begins:
  salt.runner:
    - name: ringfree.begin
    - what: failover
    - pillar: {{ asked.ringfree | json }}
    - nodes: {{ nodes | json }}
    - raises: false
    - failhard: false
    - require:
      - salt: The master has the modules

The nodes have the modules and the pillar:
  salt.runner:
    - name: ringfree.sync
    - minions: {{ nodes | json }}
    - raises: false
    - failhard: false
    - require:
      - salt: The failover begins
{%- if asked.monitor %}

# No failover waits for a monitoring host that is down, which is silent as it is.
The monitoring host has the modules and the pillar:
  salt.runner:
    - name: ringfree.sync
    - minions: [{{ asked.monitor | json }}]
    - timeout: 10
    - raises: false
    - failhard: false
    - require:
      - salt: The failover begins
{%- endif %}

# Says for each node what is lost.
Nothing stands in the way:
  salt.runner:
    - name: ringfree.failover_plan
    - to: {{ asked.to | json }}
    - nodes: {{ nodes | json }}
    - accept_age: {{ asked.accept_age | json }}
    - max_age: {{ asked.max_age | json }}
    - pillar: {{ asked.ringfree | json }}
    - raises: false
    - failhard: false
    - require:
      - salt: The nodes have the modules and the pillar
{%- if asked.monitor %}

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
      - salt: Nothing stands in the way
{%- endif %}

# One step: it ends when the last node has ended, also of those that go at the same time.
The nodes go to the other SAN:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.switch_all
    - pillar: {{ {'ringfree': asked.ringfree, 'nodes': nodes, 'to': asked.to, 'accept_age': asked.accept_age,
                  'max_age': asked.max_age, 'at_once': asked.at_once} | json }}
    - failhard: false
    - require:
      - salt: Nothing stands in the way

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

The failover ends:
  salt.runner:
    - name: ringfree.end
    - pillar: {{ asked.ringfree | json }}
    - nodes: {{ nodes | json }}
    - failhard: false
    - require:
      - salt: The failover begins
{%- endif %}
