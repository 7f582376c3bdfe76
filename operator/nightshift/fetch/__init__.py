"""What runs in the containers that resolve and download models; the only part that sees a Hub token."""
