#!jinja|yaml
# Everything that can be done before a container stops.
{%- set ringfree = salt['cloudstor.settings']() %}
{%- set shares = ringfree.shares %}

The containers that run are written down:
  vz.manifested:
    - failhard: true

What the containers have is written down:
  vz.fingerprinted:
    - failhard: true

The confs are kept:
  cloudstor.snapshotted:
    - failhard: true

Containers that do not move keep their paths:
  vz.others_pinned:
    - keys: [VE_ROOT, VE_PRIVATE, DISK_QUOTA]
    - failhard: true

{#- Not with `unless`: for that Salt loads every state module it has, which takes a second. #}
{%- for share in ('private', 'root') if not salt['mount.is_mounted'](shares[share].mount) %}

{{ ('The mount point ' ~ shares[share].mount ~ ' is there') | json }}:
  file.directory:
    - name: {{ shares[share].mount | json }}
    - makedirs: true
    - mode: '0700'
    - failhard: true
{%- endfor %}

Nobody writes under the mount points:
  cloudstor.mount_points_closed:
    - failhard: true

The variables say where the SAN is:
  ringfree_nfs.variables:
    - failhard: true

The containers' store is mounted:
  cloudstor.mounted:
    - shares: [private, root]
    - failhard: true

Nothing starts by itself:
  cloudstor.guarded:
    - failhard: true

The conf share is ready:
  cloudstor.conf_share_prepared:
    - failhard: true

The node goes back by itself unless it is committed:
  cloudstor.deadman_armed:
    - seconds: {{ ringfree.deadman.seconds | json }}
    - failhard: true
