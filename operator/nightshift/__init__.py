"""Nightshift: a Kubernetes operator that keeps vLLM serving from one LLMDeployment resource."""

__version__ = "0.1.0"
