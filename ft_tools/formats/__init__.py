"""What a training example is: formats, reading, loss marks, rendering by a chat template."""
