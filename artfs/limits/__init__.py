"""What one user may take from the others: descriptors, requests, threads, memory, lines of the log.

limit             counts what each user, and all users together, hold of something
numbers           every limit, with its unit
descriptors       the process's descriptors, whose number prlimit(1) may change
log_rate_limit    how often the log repeats what users can cause again and again
"""
