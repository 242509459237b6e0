"""What is pure: how an object lies in segments, how those are sealed, and how safe they are."""
