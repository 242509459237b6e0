"""What is shown to people and programs beyond its process, by area. Times are milliseconds since 1970 UTC."""
