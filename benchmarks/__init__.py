"""What client, relay and core cost, each against a peer that is measured in the same run: `python -m benchmarks`.

Who is measured runs in a process of its own. Both sides of a comparison take turns, round by round, and medians
count, so that whatever else the machine does meets both. On a busy machine the ratios hold better than the
microseconds.
"""
