#!jinja|yaml
# A migration or a way back works on the node, or has to be ended: nothing is touched.
The node is left alone:
  test.show_notification:
    - text: {{ salt['ringfree_keep.store']().why | default('The node is at rest.', true) | yaml_dquote }}
    - failhard: false
