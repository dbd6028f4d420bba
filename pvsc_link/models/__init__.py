"""PVSC as Keras 3 layers, one per block of the paper, in keras.ops only."""
