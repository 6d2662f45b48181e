"""The program's own structure, and the host that all tests take for granted."""
