"""The store: atomic files, parquet schemas, one folder per trial, and the MLflow mirror.

Parquet and JSON are the truth; everything under a suite's folder and in MLflow can be rebuilt.
"""
