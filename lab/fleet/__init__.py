"""The lab: a fleet of OpenVZ nodes, SANs, a Salt master and a monitoring host in namespaces of one machine."""
