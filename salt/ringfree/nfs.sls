# A node on NFS, in an order in which nothing that needs the SAN keeps the rest from being corrected.
include:
  - ringfree.fstab

The SAN can be reached over ssh:
  ringfree_keep.ssh: []

The node does not go back by itself:
  ringfree_keep.deadman: []

The mount points are there:
  ringfree_keep.mount_points: []

Nobody writes under the mount points:
  cloudstor.mount_points_closed: []

The shares are mounted:
  ringfree_keep.shares: []

The variables in /etc/ringfree are right:
  ringfree_keep.variables: []

The fence stands:
  ringfree_keep.fence: []

New containers are born on the share:
  ringfree_keep.vz_conf: []

The containers live on the share:
  ringfree_keep.container_confs: []

Each container is one node's:
  cloudstor.no_conflicts: []

Nothing waits for the share:
  cloudstor.brought_up: []
