"""The parts of a model bundle in torch; imported only where a bundle is used."""
