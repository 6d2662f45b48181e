"""Networks as they are configured: bridged and routed, of both families, one and very many."""
