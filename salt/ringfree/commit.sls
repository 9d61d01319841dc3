# The node stays on NFS.
{%- set ringfree = salt['cloudstor.settings']() %}
{%- set shares = ringfree.shares %}

The load is back to normal:
  vz.load_normal:
    - failhard: true

The mounts come back after a reboot:
  file.blockreplace:
    - name: /etc/fstab
    - marker_start: '# ringfree: mounts of the SAN, managed by Salt'
    - marker_end: '# ringfree: end'
    - append_if_not_found: true
    - content: |
        {%- for share in ('private', 'root', 'conf') %}
        {{ ringfree.nfs[ringfree.nfs.use] }}:{{ shares[share].export }} {{ shares[share].mount }} nfs {{ ringfree.nfs.options }},_netdev,nofail 0 0
        {%- endfor %}
    - failhard: true

The node stays on NFS:
  cloudstor.committed:
    - failhard: true

The variables say that the SAN is mounted:
  ringfree_nfs.variables:
    - mounted: true
    - failhard: true
