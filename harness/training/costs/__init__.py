"""What a trial costs: seconds on named clocks, FLOPs, latency."""
