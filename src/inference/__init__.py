"""Video analysis: decode, device, analyzers. Knows no queue, database or setting."""
