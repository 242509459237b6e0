"""The provider's side: pieces on a disk that its owner lends."""
