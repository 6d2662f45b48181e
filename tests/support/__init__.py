"""What is no test: throwaway hosts, traffic, and what tests do to the kernel and the program."""
