#!jinja|yaml
# salt-run state.orch cleanup pillar='{"nodes": ["node001"], "consent": "7f3a-91c2"}'
# Days after the commit: moves local private areas aside that nobody needs any more, and deletes what was moved aside days
# ago. `salt-run ringfree.consent node001` shows what that would be and gives the word, which counts for some minutes, for
# these nodes and for nothing else. Without it nothing is touched.
{%- from 'orch/asked.jinja' import asked with context %}
{%- if asked.faults %}
{%- include 'orch/refused.jinja' %}
{%- else %}
{%- set nodes = asked.nodes %}

The master has the modules:
  salt.runner:
    - name: saltutil.sync_all
    - failhard: false

The cleanup begins:
  salt.runner:
    - name: ringfree.begin
    - what: cleanup
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
      - salt: The cleanup begins

# On all nodes before the first one is touched.
The consent counts:
  salt.runner:
    - name: ringfree.consented
    - word: {{ asked.consent | json }}
    - nodes: {{ nodes | json }}
    - pillar: {{ asked.ringfree | json }}
    - raises: false
    - failhard: false
    - require:
      - salt: The nodes have the modules and the pillar

{%- for node in nodes %}

{{ (node ~ ' is cleaned up') | json }}:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.cleanup
    - pillar: {{ {'ringfree': asked.ringfree, 'node': node, 'consent': asked.consent} | json }}
    - failhard: false
    - require:
      - salt: The consent counts
{%- endfor %}

The cleanup ends:
  salt.runner:
    - name: ringfree.end
    - pillar: {{ asked.ringfree | json }}
    - nodes: {{ nodes | json }}
    - failhard: false
    - require:
      - salt: The cleanup begins
{%- endif %}
