"""What models are trained on: batches that any process can make again, and a loss."""
