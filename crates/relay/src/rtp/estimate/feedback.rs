//! What a receiver tells about each packet: transport-wide feedback as plain data.

/// One message of transport-wide congestion control (draft-holmer-rmcat-transport-wide-cc-extensions-01), unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TransportFeedback {
    /// Number of the first packet.
    pub base_seq: u16,
    /// Counts the messages of this kind, modulo 256.
    pub count: u8,
    /// The receiver's clock, in steps of 64 ms; 24 bits, signed.
    pub reference_64ms: i32,
    /// One entry per packet from `base_seq` on. `None`: it has not come. Otherwise its arrival, in steps of 250 us after the
    /// one before it in this message that has come (the first: after the reference).
    pub packets: Vec<Option<i32>>,
}
