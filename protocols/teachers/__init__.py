"""Teacher recipes (TOML) and the weights they gave (safetensors), by data set."""
