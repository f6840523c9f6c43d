"""Chaos: several workers, a monkey that kills what it can reach, and the count of what was lost."""
