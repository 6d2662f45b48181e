"""Bindings of the kernel. They decide nothing and know no sandbox."""
