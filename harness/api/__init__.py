"""What `import harness` offers: the verbs as functions, for scripts and notebooks.

`harness/__init__.py` names them and loads each when it is first asked for; `harness.cli` says the
same verbs on a command line.
"""
