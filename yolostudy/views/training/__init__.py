"""Pictures of training: curves, rates, gradients, predictions over epochs."""
