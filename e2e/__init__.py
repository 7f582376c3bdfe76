"""End-to-end parts: the local cluster, its images, a tiny model, and the stories told on them."""
