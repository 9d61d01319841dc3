# One node from its SAN to the other. What fails leaves the node guarded; the same orchestration goes on, or the other
# way.
{%- set node = pillar['node'] %}

# No other job works on it; and while its SAN answers nothing is at stake, so that the first failure ends the line.
{{ node }} may leave its SAN:
  salt.runner:
    - name: ringfree.failover_gate
    - node: {{ node | json }}
    - before: {{ pillar['before'] | json }}
    - pillar: {{ pillar['ringfree'] | json }}
    - raises: false
    - failhard: true

{{ node }} runs from the other SAN:
  salt.state:
    - tgt: [{{ node | json }}]
    - tgt_type: list
    - sls: ringfree.failover
    - pillar: {{ {'to': pillar['to'], 'accept_age': pillar['accept_age'], 'max_age': pillar['max_age']} | json }}
    - timeout: {{ pillar['ringfree'].get('timeout', 120) }}
    - queue: 100
    - failhard: true
