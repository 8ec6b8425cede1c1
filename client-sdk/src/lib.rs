//! Rate limits, circuit breakers and backpressure for services.
