# salt-run state.orch rollback pillar='{"nodes": ["node001"]}'
# Brings nodes back to local storage, from anywhere in a migration or days after it. "data": "discard" or "sync_back"
# in the pillar says what becomes of what containers wrote on NFS; ringfree:rollback:data otherwise.
{%- set ringfree = salt['pillar.get']('ringfree', {}) %}
{%- set nodes = salt['pillar.get']('nodes', []) %}
{%- set data = salt['pillar.get']('data') %}
{%- set monitor = salt['pillar.get']('ringfree:monitoring:host') %}
{%- set minions = nodes + [monitor] if monitor else nodes %}
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

The minions have the modules:
  salt.function:
    - name: saltutil.sync_all
    - tgt: {{ minions | json }}
    - tgt_type: list
    - expect_minions: true
    - require:
      - salt: The rollback begins

The minions have the pillar:
  salt.function:
    - name: saltutil.refresh_pillar
    - tgt: {{ minions | json }}
    - tgt_type: list
    - expect_minions: true
    - kwarg:
        wait: true
    - require:
      - salt: The minions have the modules
{%- if monitor %}

Monitoring is silent:
  salt.state:
    - tgt: [{{ monitor | json }}]
    - tgt_type: list
    - sls: ringfree.monitoring.silent
    - timeout: {{ timeout }}
    - queue: 100
    - require:
      - salt: The minions have the pillar
{%- endif %}

{%- for node in nodes %}

{{ node }} goes back:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.back
    - pillar: {{ {'ringfree': ringfree, 'node': node, 'data': data} | json }}
    - require:
      - salt: {{ 'Monitoring is silent' if monitor else 'The minions have the pillar' }}
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
      - salt: The rollback begins
{%- endif %}

The rollback ends:
  salt.runner:
    - name: ringfree.end
    - pillar: {{ ringfree | json }}
    - nodes: {{ nodes | json }}
    - require:
      - salt: The rollback begins
