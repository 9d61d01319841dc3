#!jinja|yaml
# The containers of the node run from the other SAN: one state that does every step, and goes on where it stopped.
The node runs from the other SAN:
  ringfree_failover.runs_from:
    - to: {{ salt['pillar.get']('to', 'secondary') | json }}
    - accept_age: {{ salt['pillar.get']('accept_age', false) | json }}
    - max_age: {{ salt['pillar.get']('max_age') | json }}
    - failhard: false
