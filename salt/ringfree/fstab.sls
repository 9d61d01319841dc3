# The shares are mounted at boot.
{%- set ringfree = salt['cloudstor.settings']() %}
{%- set shares = ringfree.shares %}

The mounts come back after a reboot:
  file.blockreplace:
    - name: /etc/fstab
    - marker_start: '# ringfree: mounts of the SAN, managed by Salt'
    - marker_end: '# ringfree: end'
    - append_if_not_found: true
    - content: |
        {%- for share in ('private', 'root', 'conf') %}
        {{ salt['ringfree_nfs.server']() }}:{{ shares[share].export }} {{ shares[share].mount }} nfs {{ ringfree.nfs.options }},_netdev,nofail 0 0
        {%- endfor %}
