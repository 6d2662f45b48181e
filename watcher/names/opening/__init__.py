"""What sandboxes with names in their lists of `egress` may ask for, and the answers open to them.

- `limits`: which names a sandbox may ask for, and in which of its networks they open anything.
- `answered`: the addresses in an answer.
- `link`: the connection to the service, which opens them.
- `openings`: what is open until when, and the answers that wait until it is.
"""
