"""Where data come from and where they are kept: archives, downloads, mapped caches, locks."""
