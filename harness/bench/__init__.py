"""Benchmarks, as commands of the product: `harness bench step | truncation | regularizer | launch`."""
