#!jinja|yaml
# From the first stop to the last answer. Nothing is in here that could have been done before.
{%- set ringfree = salt['ringfree_settings.get']() %}
{%- set shares = ringfree.shares %}
{%- set paths = {
      'VE_ROOT': shares.root.mount ~ '/$VEID',
      'VE_PRIVATE': shares.private.mount ~ '/$VEID',
      'DISK_QUOTA': 'no',
    } %}

The containers are stopped:
  vz.stopped:
    - failhard: true

The last changes are on the share:
  cloudstor.synced:
    - failhard: true

The share's copies are the live ones:
  ringfree_owner.owned:
    - failhard: true

The container confs lead to the share:
  vz.containers_configured:
    - settings: {{ paths | json }}
    - failhard: true

vz.conf leads to the share:
  vz.configured:
    - settings: {{ paths | json }}
    - failhard: true

The conf share is as the confs are:
  ringfree_confs.prepared:
    - failhard: true

vz reads the new vz.conf:
  vz.restarted:
    - failhard: true

The conf share is mounted:
  ringfree_nfs.mounted:
    - shares: [conf]
    - failhard: true

Priority containers are confirmed:
  vz.running:
    - first: true
    - failhard: true

All containers run and answer:
  vz.running:
    - failhard: true
