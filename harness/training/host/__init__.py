"""The machine and the process that a trial runs in: device, memory, signals, faults."""
