#!jinja|yaml
# state.apply keeps the nodes of the pillar as they are declared. Other minions of this master get nothing from here.
{%- set nodes = salt['pillar.get']('ringfree:nodes', []) %}
{%- if nodes is iterable and opts.id in nodes %}
base:
  {{ opts.id | json }}:
    - ringfree.highstate
{%- else %}
base: {}
{%- endif %}
