# The nodes, in the order in which they move. The first one is the canary: the others wait until it is done.
ringfree:
  nodes:
    - node001
    - node002
