"""Text in pixels: neural networks that run on a plain processor, without a network connection."""
