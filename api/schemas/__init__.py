"""Shapes of requests and answers, one module a resource."""
