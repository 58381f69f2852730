"""The parts of `python -m benchmarks.scene_full`, a file each."""
