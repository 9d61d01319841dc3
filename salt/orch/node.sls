# One node from local storage to NFS, and back when a part of that fails. What fails stays a failure, also when the node
# is back in order.
{%- set ringfree = pillar['ringfree'] %}
{%- set node = pillar['node'] %}

{{ node }} goes through every part:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.parts
    - pillar: {{ {'ringfree': ringfree, 'node': node} | json }}

# Only from the middle of a migration: a node that was committed stays on NFS, whatever fails on it later.
{{ node }} goes back:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.back
    - pillar: {{ {'ringfree': ringfree, 'node': node, 'committed': false} | json }}
    - onfail:
      - salt: {{ node }} goes through every part
