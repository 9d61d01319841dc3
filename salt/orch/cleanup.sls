# The old local copies of one node; a node that cannot be cleaned up does not keep the others from it.
{%- set ringfree = pillar['ringfree'] %}
{%- set node = pillar['node'] %}

{{ node }} is cleaned up:
  salt.state:
    - tgt: [{{ node | json }}]
    - tgt_type: list
    - sls: ringfree.cleanup
    - pillar: {{ {'consent': pillar['consent']} | json }}
    - timeout: {{ ringfree.get('timeout', 120) }}
    - queue: 100
