"""What runs beside a gateway: load, verify and decide with a bundle. Imports numpy, onnxruntime and tokenizers only."""
