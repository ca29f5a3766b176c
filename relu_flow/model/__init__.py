"""What is trained: the network, the loss and the problem."""
