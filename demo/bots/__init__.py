"""The platform's own app: workspaces, published workflows, and the runs of them."""
