"""How packets get to the blocks of other hosts: routes, VXLAN devices and their entries."""
