"""Beside other engines: Docker, Podman, containerd and crun, the real ones of Debian's packages.

`make test-engines` installs what they need and runs them; `make test` leaves them out.
"""
