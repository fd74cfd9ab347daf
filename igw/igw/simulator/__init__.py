"""An honest model-server simulator: continuous batching, KV blocks, prefix cache."""
