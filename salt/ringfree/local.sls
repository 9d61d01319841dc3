#!jinja|yaml
# A node on local storage: vz.conf, confs and containers are not ours.
The variables in /etc/ringfree are right:
  ringfree_keep.variables:
    - failhard: false

The SAN can be reached over ssh:
  ringfree_keep.ssh:
    - failhard: false

# What depends on it would be wrong on a node whose journal was lost.
Nothing of the share is in use:
  ringfree_keep.leftovers:
    - failhard: false

Nobody else reads what is kept of the node:
  ringfree_keep.modes:
    - failhard: false

The node does not go back by itself:
  ringfree_keep.deadman:
    - failhard: false
    - require:
      - ringfree_keep: Nothing of the share is in use

The shares are not mounted at boot:
  ringfree_keep.no_mounts:
    - failhard: false
    - require:
      - ringfree_keep: Nothing of the share is in use

The fence is gone:
  ringfree_keep.no_fence:
    - failhard: false
    - require:
      - ringfree_keep: Nothing of the share is in use
