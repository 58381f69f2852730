"""The parts of `python -m benchmarks.priors_full`, a file each."""
