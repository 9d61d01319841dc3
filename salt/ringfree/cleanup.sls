#!jinja|yaml
# What the node does not need on its own disk any more: moved aside first, deleted days later. Only with a consent.
The old local copies are cleaned up:
  ringfree_cleanup.cleaned:
    - consent: {{ salt['pillar.get']('consent') | json }}
    - failhard: false
