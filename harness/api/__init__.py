"""What `import harness` offers: the verbs as functions, for scripts and notebooks.

`harness/__init__.py` names them and loads each on first use; `harness.cli` has the same verbs on
the command line.
"""
