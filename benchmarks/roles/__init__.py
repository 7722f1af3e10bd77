"""What a child process can be. Each file is one role, run as `python -m benchmarks.roles.…`."""
