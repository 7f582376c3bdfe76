"""What the gateway costs, beside a direct call and other proxies, and how soon it follows the cluster."""
