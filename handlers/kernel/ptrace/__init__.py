"""Stops threads of another process, and has them make system calls (ptrace(2)).

The thread that seizes another one is its tracer: only that thread can use it. If it ends, the
kernel kills what it traces.
"""
