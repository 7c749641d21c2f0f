"""Benchmarks as commands: `harness bench step | truncation | regularizer | launch`."""
