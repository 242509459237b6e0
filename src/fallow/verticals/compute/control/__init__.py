"""The network's side: comparing results as their buyer's tolerance says."""
