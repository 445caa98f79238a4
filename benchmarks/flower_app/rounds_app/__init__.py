"""The Flower app of the rounds benchmark; it imports numpy and Flower, nothing of the product."""
