# The parts of one node's way from local storage to NFS. The first failure ends it; a second run continues.
# The queue waits for a highstate; a number does that, `true` does not: https://github.com/saltstack/salt/issues/68694
{%- set node = pillar['node'] %}
{%- set timeout = pillar['ringfree'].get('timeout', 120) %}
{%- set parts = [
      ('presync', 'is nearly copied'),
      ('packages', 'has its updates'),
      ('prepare', 'is prepared'),
      ('cutover', 'runs from NFS'),
      ('commit', 'stays on NFS'),
    ] %}

{%- for part, sentence in parts %}

# Not aborted, not paused, and time enough for this, for the rest and for the way back.
{{ node }} may go on with {{ part }}:
  salt.runner:
    - name: ringfree.gate
    - node: {{ node | json }}
    - part: {{ part }}
    - pillar: {{ pillar['ringfree'] | json }}
    - raises: false
    - failhard: true

{{ node }} {{ sentence }}:
  salt.state:
    - tgt: [{{ node | json }}]
    - tgt_type: list
    - sls: ringfree.{{ part }}
    - timeout: {{ timeout }}
    - queue: 100
    - failhard: true
{%- endfor %}
