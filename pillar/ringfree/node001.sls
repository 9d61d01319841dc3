# What is different on node001. Anything of ringfree/init.sls can stand here for one node.
ringfree:
  nfs:
    # The addresses by which this node reaches the SANs, when it has another network than the rest of the fleet.
    primary: 10.77.0.21
    secondary: 10.77.0.22
  containers:
    # Started first, in this order, one by one, each confirmed before the next: NAME, HOSTNAME or id.
    priority:
      - Four Seasons hospice
      - PBX
      - Epsilon
    # Containers without a service, and the check that they are exempt from.
    exempt:
      revnat: [asterisk]
      revnat beta: [asterisk]
