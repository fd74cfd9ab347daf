"""The command line, the standalone gateway and the model-server simulator."""
