"""The store: atomic files, parquet schemas, one folder per trial, and the MLflow mirror.

Parquet and JSON are authoritative; a suite's tables and report and the mirror can be rebuilt.
"""
