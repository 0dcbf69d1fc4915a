"""A reproducible experiment: what the shape and the learning rate of a multi-layer perceptron decide."""
