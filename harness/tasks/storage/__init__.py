"""Storage of data: archives, downloads, mapped caches, locks."""
