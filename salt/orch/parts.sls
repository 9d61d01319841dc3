#!jinja|yaml
# The parts of one node's way from local storage to NFS. The first failure ends it; a second run continues.
# A runner does them, and asks the node itself when a minion that was restarted meanwhile does not answer.
{%- from 'orch/asked.jinja' import asked with context %}
{%- if asked.faults %}
{%- include 'orch/refused.jinja' %}
{%- else %}
{%- set node = asked.node %}
{%- set parts = [
      ('presync', 'is nearly copied'),
      ('packages', 'has its updates'),
      ('prepare', 'is prepared'),
      ('cutover', 'runs from NFS'),
      ('commit', 'stays on NFS'),
    ] %}

{%- for part, sentence in parts %}

# Not aborted, not paused, and time enough for this, for the rest and for the way back.
{{ (node ~ ' may go on with ' ~ part) | json }}:
  salt.runner:
    - name: ringfree.gate
    - node: {{ node | json }}
    - part: {{ part | json }}
    - pillar: {{ asked.ringfree | json }}
    - raises: false
    - failhard: true

{{ (node ~ ' ' ~ sentence) | json }}:
  salt.runner:
    - name: ringfree.part
    - node: {{ node | json }}
    - part: {{ part | json }}
    - pillar: {{ asked.ringfree | json }}
    - raises: false
    - failhard: true
{%- endfor %}
{%- endif %}
