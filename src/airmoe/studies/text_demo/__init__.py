"""The demonstration of a language model: trained by owners, served by processes, a node killed mid-text."""
