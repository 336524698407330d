"""The Temporal client's side: connecting, starting workflows, waiting for them."""
