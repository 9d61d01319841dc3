# salt-run state.orch presync
# Copies the containers of the nodes while they run; for the days before. Runs again as often as you like.
{%- set ringfree = salt['pillar.get']('ringfree', {}) %}
{%- set nodes = salt['pillar.get']('nodes') or salt['pillar.get']('ringfree:nodes', []) %}

The master has the modules:
  salt.runner:
    - name: saltutil.sync_all

The pre-sync begins:
  salt.runner:
    - name: ringfree.begin
    - what: presync
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
      - salt: The pre-sync begins

Every node is fit to move:
  salt.runner:
    - name: ringfree.preflight
    - pillar: {{ ringfree | json }}
    - nodes: {{ nodes | json }}
    - raises: false
    - require:
      - salt: The nodes have the modules and the pillar

{%- for node in nodes %}

{{ node }} is nearly copied:
  salt.state:
    - tgt: [{{ node | json }}]
    - tgt_type: list
    - sls: ringfree.presync
    - timeout: {{ ringfree.get('timeout', 120) }}
    - queue: 100
    - require:
      - salt: Every node is fit to move
{%- endfor %}

The pre-sync ends:
  salt.runner:
    - name: ringfree.end
    - pillar: {{ ringfree | json }}
    - nodes: {{ nodes | json }}
    - require:
      - salt: The pre-sync begins
