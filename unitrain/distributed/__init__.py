"""Several processes that train one model: who they are, what they agree on, who starts them, and how they end."""
