"""What the home page is told by the database: see docs/recipes/push.md. An app, for its migration."""
