"""Bindings of kernel interfaces. They decide nothing and know no sandbox."""
