#!jinja|yaml
# What state.apply keeps, by where the node is: on local storage, on NFS, or in flight, where it is left alone.
{%- set found = salt['ringfree_keep.store']() %}
{%- if found.state %}
include:
  - {{ ('ringfree.' ~ found.state) | json }}
{%- else %}
Nothing can be kept on this node:
  ringfree_keep.impossible:
    - why: {{ found.why | yaml_dquote }}
    - failhard: false
{%- endif %}
