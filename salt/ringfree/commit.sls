#!jinja|yaml
# The node stays on NFS.
include:
  - ringfree.fstab

The load is back to normal:
  ringfree_start.load_normal:
    - failhard: true
    - require_in:
      - file: The mounts come back after a reboot

The node stays on NFS:
  cloudstor.committed:
    - failhard: true
    - require:
      - file: The mounts come back after a reboot
      - ringfree_boot: vz starts only with its store

The variables say that the SAN is mounted:
  ringfree_nfs.variables:
    - mounted: true
    - failhard: true
