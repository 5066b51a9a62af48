"""What every server does: for one tenant, and for all of them."""
