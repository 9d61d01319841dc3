#!jinja|yaml
# Everything that can be done before a container stops.
{%- set ringfree = salt['ringfree_settings.get']() %}
{%- set shares = ringfree.shares %}

The containers that run are written down:
  vz.manifested:
    - failhard: true

What the containers have is written down:
  ringfree_fingerprint.taken:
    - failhard: true

The confs are kept:
  ringfree_snapshot.made:
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
  ringfree_boot.mount_points_closed:
    - failhard: true

The variables say where the SAN is:
  ringfree_nfs.variables:
    - failhard: true

The containers' store is mounted:
  ringfree_nfs.mounted:
    - shares: [private, root]
    - failhard: true

Nothing starts by itself:
  ringfree_guard.guarded:
    - failhard: true

The conf share is ready:
  ringfree_confs.prepared:
    - failhard: true

The node goes back by itself unless it is committed:
  ringfree_deadman.armed:
    - seconds: {{ ringfree.deadman.seconds | json }}
    - failhard: true
