"""What any room may use, and what uses no other room."""
