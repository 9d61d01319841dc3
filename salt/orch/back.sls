# One node back to local storage, once nothing works on it any more; a highstate is waited for by the queue (parts.sls).
# `data` and `committed` are those of the state cloudstor.reverted.
{%- set ringfree = pillar['ringfree'] %}
{%- set node = pillar['node'] %}

{{ node }} is at rest:
  salt.runner:
    - name: ringfree.wait_idle
    - pillar: {{ ringfree | json }}
    - nodes: [{{ node | json }}]
    - raises: false

{{ node }} is back on local storage:
  salt.state:
    - tgt: [{{ node | json }}]
    - tgt_type: list
    - sls: ringfree.rollback
    - pillar: {{ {'data': pillar.get('data'), 'committed': pillar.get('committed', true)} | json }}
    - timeout: {{ ringfree.get('timeout', 120) }}
    - queue: 100
    - require:
      - salt: {{ node }} is at rest
