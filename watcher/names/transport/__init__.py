"""Questions and answers by UDP and TCP, at the gateways of the networks with names."""
