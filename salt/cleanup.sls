# salt-run state.orch cleanup pillar='{"nodes": ["node001"], "consent": "7f3a-91c2"}'
# Days after the commit: moves local private areas aside that nobody needs any more, and deletes what was moved aside days
# ago. `salt-run ringfree.consent node001` shows what that would be and gives the word, which counts for some minutes, for
# these nodes and for nothing else. Without it nothing is touched.
{%- set ringfree = salt['pillar.get']('ringfree', {}) %}
{%- set nodes = salt['pillar.get']('nodes') or salt['pillar.get']('ringfree:nodes', []) %}
{%- set consent = salt['pillar.get']('consent') %}

The master has the modules:
  salt.runner:
    - name: saltutil.sync_all

The cleanup begins:
  salt.runner:
    - name: ringfree.begin
    - what: cleanup
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
      - salt: The cleanup begins

# On all nodes before the first one is touched.
The consent counts:
  salt.runner:
    - name: ringfree.consented
    - word: {{ consent | json }}
    - nodes: {{ nodes | json }}
    - pillar: {{ ringfree | json }}
    - raises: false
    - require:
      - salt: The nodes have the modules and the pillar

{%- for node in nodes %}

{{ node }} is cleaned up:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.cleanup
    - pillar: {{ {'ringfree': ringfree, 'node': node, 'consent': consent} | json }}
    - require:
      - salt: The consent counts
{%- endfor %}

The cleanup ends:
  salt.runner:
    - name: ringfree.end
    - pillar: {{ ringfree | json }}
    - nodes: {{ nodes | json }}
    - require:
      - salt: The cleanup begins
