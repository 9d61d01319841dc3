#!jinja|yaml
# A node on NFS, in an order in which nothing that needs the SAN keeps the rest from being corrected.
include:
  - ringfree.fstab

The SAN can be reached over ssh:
  ringfree_keep.ssh:
    - failhard: false

Nobody else reads what is kept of the node:
  ringfree_keep.modes:
    - failhard: false

The node does not go back by itself:
  ringfree_keep.deadman:
    - failhard: false

The mount points are there:
  ringfree_keep.mount_points:
    - failhard: false

Nobody writes under the mount points:
  ringfree_boot.mount_points_closed:
    - failhard: false

The shares are mounted:
  ringfree_keep.shares:
    - failhard: false

The variables in /etc/ringfree are right:
  ringfree_keep.variables:
    - failhard: false

The fence stands:
  ringfree_keep.fence:
    - failhard: false

New containers are born on the share:
  ringfree_keep.vz_conf:
    - failhard: false

The containers live on the share:
  ringfree_keep.container_confs:
    - failhard: false

Each container is one node's:
  ringfree_owner.no_conflicts:
    - failhard: false

Nobody else's scripts run here:
  ringfree_scripts.known:
    - failhard: false

Nothing waits for the share:
  cloudstor.brought_up:
    - failhard: false
