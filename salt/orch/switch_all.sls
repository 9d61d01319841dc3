# The nodes from their SAN to the other, one after the other or all at once.
{%- set nodes = pillar['nodes'] %}
{%- for node in nodes %}

# The nodes do not require each other: where the SAN is dead, one that fails must not keep the others down.
{{ node }} goes to the other SAN:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.switch
    - pillar: {{ {'ringfree': pillar['ringfree'], 'node': node, 'before': [] if pillar['at_once'] else nodes[:loop.index0],
                  'to': pillar['to'], 'accept_age': pillar['accept_age'], 'max_age': pillar['max_age']} | json }}
    {%- if pillar['at_once'] and nodes | length > 1 %}
    - parallel: true
    {%- endif %}
{%- endfor %}
