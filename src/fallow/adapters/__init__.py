"""What stands behind the ports. Only bootstrap imports from here."""
