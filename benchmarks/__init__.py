"""The benchmark command: what a pack costs, how fast this machine is, and against whom."""
