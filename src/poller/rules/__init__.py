"""Decisions only: values in, values out. No await, clock, randomness, logging or client."""
