#!jinja|yaml
# The shares are mounted at boot, and vz waits for them.

The mounts come back after a reboot:
  file.blockreplace:
    - name: /etc/fstab
    - marker_start: '# ringfree: mounts of the SAN, managed by Salt'
    - marker_end: '# ringfree: end'
    - append_if_not_found: true
    - content: {{ salt['ringfree_nfs.fstab']() | json }}
    - failhard: false

vz starts only with its store:
  ringfree_boot.vz_waits:
    - failhard: false
