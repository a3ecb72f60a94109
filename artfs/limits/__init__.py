"""What one user may take from the others: memory, descriptors, threads, lines in the log."""
