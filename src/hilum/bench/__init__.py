"""How fast this machine is: engines against torchxrayvision's network, and training loops against each other."""
