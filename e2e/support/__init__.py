"""What the demo and the stories share: installing Nightshift, waiting, asking, dumping."""
