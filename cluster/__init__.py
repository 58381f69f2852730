"""Many machines: the durable flow of a film, its artifacts, workers, resources, profiles."""
