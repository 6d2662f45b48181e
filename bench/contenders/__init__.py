"""The contenders, which give a sandbox its network: this program, the floor, and the peers."""
