"""A local server that speaks the Hugging Face Hub's protocol, for tests and the local cluster.

Models are directories below one root: ORG/NAME is the branch main of ORG/NAME, and ORG/NAME@BRANCH
another branch or tag of it (`@main` overrides the plain one, which moves the branch and keeps the old
commit). Commits are named by content. `.gated` and `.private` in a model's directory list the tokens
that may read it, one a line; `.tokens` in the root lists tokens that are valid but have no such rights.

The package needs nothing but aiohttp, so that it can be copied into an image.
"""
