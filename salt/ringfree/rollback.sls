#!jinja|yaml
# The way back: one state that attempts every sub-step and reports each.
The node is back on local storage:
  ringfree_rollback.rolled_back:
    - data: {{ salt['pillar.get']('data') | json }}
    - committed: {{ salt['pillar.get']('committed', true) | json }}
    - failhard: false
