"""DVST: wireless video by motion and context, each a latent with feature codecs of its own."""
