"""What the core costs, against what it is built on, measured side by side in one run: `python -m benchmarks`.

Numbers are CPU time of this process, medians over rounds in which both sides take turns. On a busy machine the
ratios hold better than the microseconds.
"""
