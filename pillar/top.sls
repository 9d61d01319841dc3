# Which minion sees what. The master's own entry is what orchestrations see; set `id: master` in the master's config.
# There is no secret in here: every minion may read addresses and names. Keys of ssh stay in files on the nodes.
base:
  '*':
    - ringfree
    - ringfree.fleet
  'node001':
    - ringfree.node001
