"""One measurement or one rule a module: torch measures frames, plain Python decides events."""
