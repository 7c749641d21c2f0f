"""The command line: one file a verb, or a group of them; `app` puts them together."""
