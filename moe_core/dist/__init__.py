"""Several processes as one machine: how they are started, and how they share the experts of a layer."""
