"""Long runs against artfs, by time: ``scripts/torture --help``. A short run of each is in the suite."""
