"""What to simulate: schema, YAML loader, grid of points. No TensorFlow."""
