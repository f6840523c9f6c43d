"""Speed and memory as ratios, each measured beside its peer in one run."""
