//! The Grove server.

/// Signalling.
pub mod signal {
    pub mod message;
}
