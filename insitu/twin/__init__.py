"""The twin: a loopback estate that plays Azure and an Azure Stack Hub, so that a site can be rehearsed."""
