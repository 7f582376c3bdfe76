"""The product's and the tests' images: built from `images/` when their inputs changed, and named for pods."""

from .catalogue import CATALOGUE, Image, image

__all__ = ["CATALOGUE", "Image", "image"]
