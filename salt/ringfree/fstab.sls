# The shares are mounted at boot, and vz waits for them.
{%- set ringfree = salt['cloudstor.settings']() %}
{%- set shares = ringfree.shares %}
{#- A boot does not wait longer for a SAN that is away. #}
{%- set late = 'x-systemd.mount-timeout=' ~ ringfree.nfs.deadline if grains.get('init') == 'systemd' else 'retry=0' %}

The mounts come back after a reboot:
  file.blockreplace:
    - name: /etc/fstab
    - marker_start: '# ringfree: mounts of the SAN, managed by Salt'
    - marker_end: '# ringfree: end'
    - append_if_not_found: true
    - content: |
        {%- for share in ('private', 'root', 'conf') %}
        {{ salt['ringfree_nfs.server']() }}:{{ shares[share].export }} {{ shares[share].mount }} nfs {{ ringfree.nfs.options }},_netdev,nofail,{{ late }} 0 0
        {%- endfor %}

vz starts only with its store:
  cloudstor.vz_waits: []
