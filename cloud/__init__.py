"""The daily cloud job, the model pool and the inference service."""
